"""A setting of the whole process is changed only while somebody needs it."""

import threading

import pytest

from unetpipe.process_setting import ProcessSetting


class Library:
    """Has a setting."""

    verbose = True

    def read(self) -> bool:
        return self.verbose

    def write(self, value: bool) -> None:
        self.verbose = value


def test_a_setting_is_put_back_after_an_error() -> None:
    """Inside the value holds, afterwards the one before, whatever happens inside."""
    library = Library()
    quiet = ProcessSetting(library.read, library.write, False)

    @quiet
    def fail() -> None:
        assert not library.verbose
        raise ValueError("inside")

    for _ in range(2):
        with pytest.raises(ValueError, match="inside"):
            fail()
        assert library.verbose


def test_the_last_thread_puts_it_back() -> None:
    """A thread that leaves while another is inside does not take the setting away from it."""
    library = Library()
    quiet = ProcessSetting(library.read, library.write, False)
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with quiet:
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    with quiet:
        thread.start()
        assert inside.wait(10)
    assert not library.verbose
    leave.set()
    thread.join()
    assert library.verbose
