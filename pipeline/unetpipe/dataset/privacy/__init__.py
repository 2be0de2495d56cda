"""What keeps patients out of the files that are written: ids that stand for sources, and the site's table of them."""
