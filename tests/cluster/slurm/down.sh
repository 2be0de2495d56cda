#!/bin/bash
# Stops what up.sh recorded, by pid, newest first; checks that the pid still is that program.
set -u
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ROOT=${ROOT:-/tmp/slurm} BR=${BR:-slbr0}
export SLURM_CONF="$ROOT/slurm.conf"
timeout 5 scancel --quiet --full --state=RUNNING,PENDING,SUSPENDED 2>/dev/null || timeout 5 scancel -u root 2>/dev/null
sleep 0.5
tac "$ROOT/pids" 2>/dev/null | while read -r name pid; do
  exe=$(basename "$(readlink "/proc/$pid/exe" 2>/dev/null)" 2>/dev/null)
  case "$exe" in ${name%%-n*}*) ;; *) continue;; esac
  # a zombie (pid 1 here reaps late) counts as gone: kill -0 would still succeed on it
  alive() { case "$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null)" in ""|Z*) return 1;; esac; }
  kill "$pid" 2>/dev/null
  for _ in $(seq 100); do alive || break; sleep 0.1; done
  alive && { echo "kill -9 $name $pid"; kill -9 "$pid"; }
done
: > "$ROOT/pids"
# /etc/hosts may be a bind mount: write in place
h=$(grep -v '# slurm-test$' /etc/hosts); printf '%s\n' "$h" > /etc/hosts
for n in $(ip netns list 2>/dev/null | awk '/^slns/{print $1}'); do ip netns del "$n"; done
ip link show "$BR" >/dev/null 2>&1 && ip link del "$BR"
[ "${WIPE:-0}" = 1 ] && rm -rf "$ROOT"
exit 0
