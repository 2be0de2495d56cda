#!/bin/bash
# Starts a real Slurm cluster on one machine, as root, with no systemd and no cgroups.
#   NODES=3 ACCT=1 MODE=multi ROOT=/tmp/slurm  up.sh
# MODE=multi : several slurmd -N on loopback (all report the machine's own hostname)
# MODE=netns : one network namespace + UTS hostname per node
# Afterwards:  export SLURM_CONF=$ROOT/slurm.conf  (or: . $ROOT/env)
set -euo pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME="${HOME:-/root}" LC_ALL=C
umask 022
ROOT=${ROOT:-/tmp/slurm} NODES=${NODES:-3} CPUS=${CPUS:-2} MEM=${MEM:-4000} ACCT=${ACCT:-1} MODE=${MODE:-multi} GPUS=${GPUS:-0}   # GPUS: pretend GPUs per node (gres, no device)
CRED_EXPIRE=${CRED_EXPIRE:-5}       # also how long a requeued job waits (default would be 120 s)
CTLPORT=${CTLPORT:-16817} DBDPORT=${DBDPORT:-16819} SQLPORT=${SQLPORT:-16836} NDPORT=${NDPORT:-16818}
NET=${NET:-10.213.7} BR=${BR:-slbr0}
HOST=$(hostname -s)
T0=$(date +%s%N)
mkdir -p "$ROOT"/{state,spool,log,run}; : > "$ROOT/pids"
rec() { echo "$1 $2" >> "$ROOT/pids"; }                      # name pid
recf() { wait_for test -s "$2"; rec "$1" "$(cat "$2")"; }      # name pidfile
ms() { echo "[$(( ($(date +%s%N)-T0)/1000000 )) ms] $*"; }
wait_for() { local end=$((SECONDS+30)); until timeout 10 "$@" >"$ROOT/log/wait.out" 2>&1; do [ $SECONDS -lt $end ] || { echo "timeout: $*" >&2; cat "$ROOT/log/wait.out" >&2; return 1; }; sleep 0.1; done; }

# --- munge (own key and socket; root-owned)
[ -s "$ROOT/munge.key" ] || { (umask 077; head -c 1024 /dev/urandom > "$ROOT/munge.key"); }
SOCK=$ROOT/run/munge.socket
munged --force --socket="$SOCK" --key-file="$ROOT/munge.key" --pid-file="$ROOT/run/munged.pid" \
       --log-file="$ROOT/log/munged.log" --seed-file="$ROOT/run/munged.seed" </dev/null >/dev/null 2>"$ROOT/log/munged.err"
recf munged "$ROOT/run/munged.pid"; ms munged

# --- node addresses
ADDRS=() ; CTLADDR=127.0.0.1
if [ "$MODE" = netns ]; then
  CTLADDR=$NET.254
  ip link add "$BR" type bridge; ip addr add "$CTLADDR/24" dev "$BR"; ip link set "$BR" up
  for i in $(seq "$NODES"); do
    ip netns add "slns$i"; ip link add "slv$i" type veth peer name eth0 netns "slns$i"
    ip link set "slv$i" master "$BR" up
    ip -n "slns$i" addr add "$NET.$i/24" dev eth0; ip -n "slns$i" link set eth0 up; ip -n "slns$i" link set lo up
    ADDRS+=("$NET.$i")
  done
else
  for i in $(seq "$NODES"); do ADDRS+=(127.0.0.1); done   # distinct ports below: slurmd binds its host's address, not NodeAddr
fi
# names must resolve for rendezvous (MASTER_ADDR=n1 etc.); marked lines, taken out again by down.sh
for i in $(seq "$NODES"); do echo "${ADDRS[$((i-1))]} n$i # slurm-test"; done >> /etc/hosts
ms addresses

# --- accounting
ACCTCONF="AccountingStorageType=accounting_storage/none"
if [ "$ACCT" = 1 ]; then
  if [ ! -d "$ROOT/sql/mysql" ]; then
    mkdir -p "$ROOT/sql"
    mariadb-install-db --no-defaults --user=root --datadir="$ROOT/sql" --auth-root-authentication-method=normal --skip-test-db >"$ROOT/log/sql-init.log" 2>&1
    ms mariadb-install-db
  fi
  mariadbd --no-defaults --user=root --datadir="$ROOT/sql" --socket="$ROOT/run/sql.sock" --pid-file="$ROOT/run/sql.pid" \
      --bind-address=127.0.0.1 --port="$SQLPORT" --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 \
      </dev/null >"$ROOT/log/sql.log" 2>&1 &
  rec mariadbd $!
  wait_for mariadb --no-defaults -uroot -S "$ROOT/run/sql.sock" -e 'select 1'; ms mariadbd
  mariadb --no-defaults -uroot -S "$ROOT/run/sql.sock" -e "create database if not exists slurm_acct; create user if not exists 'slurm'@'127.0.0.1' identified by 'slurm'; grant all on slurm_acct.* to 'slurm'@'127.0.0.1';"
  (umask 077; cat > "$ROOT/slurmdbd.conf" <<E2
AuthType=auth/munge
AuthInfo=socket=$SOCK
DbdHost=localhost
DbdAddr=$CTLADDR
DbdPort=$DBDPORT
SlurmUser=root
LogFile=$ROOT/log/slurmdbd.log
PidFile=$ROOT/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$SQLPORT
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct
E2
  )
  ACCTCONF="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$CTLADDR
AccountingStoragePort=$DBDPORT
AccountingStoragePass=$SOCK"
fi

G=; rm -f "$ROOT/gres.conf"
if [ "$GPUS" != 0 ]; then
  G="Gres=gpu:$GPUS"; mkdir -p "$ROOT/fakegpu"
  for k in $(seq 0 $((GPUS-1))); do [ -e "$ROOT/fakegpu/nvidia$k" ] || mknod "$ROOT/fakegpu/nvidia$k" c 1 3; done
  echo "NodeName=n[1-$NODES] Name=gpu File=$ROOT/fakegpu/nvidia[0-$((GPUS-1))]" > "$ROOT/gres.conf"
fi
cat > "$ROOT/slurm.conf" <<E2
ClusterName=test
SlurmctldHost=$HOST($CTLADDR)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$SOCK,cred_expire=$CRED_EXPIRE
CredType=cred/munge
SlurmctldPort=$CTLPORT
StateSaveLocation=$ROOT/state
SlurmdSpoolDir=$ROOT/spool/%n
SlurmctldPidFile=$ROOT/run/slurmctld.pid
SlurmdPidFile=$ROOT/run/slurmd-%n.pid
SlurmctldLogFile=$ROOT/log/slurmctld.log
SlurmdLogFile=$ROOT/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,sched_min_interval=100000,bf_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobCompType=jobcomp/filetxt
JobCompLoc=$ROOT/log/jobcomp.txt
JobRequeue=1
KillWait=5
OverTimeLimit=0
MinJobAge=3600
$([ "$MODE" = netns ] || echo CommunicationParameters=NoInAddrAny,NoCtldInAddrAny)
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
$ACCTCONF
$([ "$GPUS" = 0 ] || echo GresTypes=gpu)
$(for i in $(seq "$NODES"); do
   if [ "$MODE" = netns ]; then echo "NodeName=n$i NodeAddr=${ADDRS[$((i-1))]} Port=$NDPORT CPUs=$CPUS RealMemory=$MEM $G State=UNKNOWN"
   else echo "NodeName=n$i NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((NDPORT+20+i)) CPUs=$CPUS RealMemory=$MEM $G State=UNKNOWN"; fi; done)
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=${GRACE:-20}
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
E2
export SLURM_CONF="$ROOT/slurm.conf"
echo "export SLURM_CONF=$ROOT/slurm.conf" > "$ROOT/env"

if [ "$ACCT" = 1 ]; then
  SLURM_CONF="$ROOT/slurm.conf" slurmdbd </dev/null >"$ROOT/log/slurmdbd.out" 2>&1
  recf slurmdbd "$ROOT/run/slurmdbd.pid"
  wait_for sacctmgr -n show cluster; ms slurmdbd
  sacctmgr -i add cluster test >/dev/null 2>&1 || true
fi
slurmctld -f "$SLURM_CONF" </dev/null >"$ROOT/log/slurmctld.out" 2>&1
recf slurmctld "$ROOT/run/slurmctld.pid"
wait_for scontrol ping; ms slurmctld
for i in $(seq "$NODES"); do
  if [ "$MODE" = netns ]; then
    nsenter --net="/run/netns/slns$i" unshare --uts bash -c "hostname n$i && exec slurmd -f '$SLURM_CONF' -N n$i" </dev/null >"$ROOT/log/slurmd-n$i.out" 2>&1
  else
    slurmd -f "$SLURM_CONF" -N "n$i" </dev/null >"$ROOT/log/slurmd-n$i.out" 2>&1
  fi
  recf "slurmd-n$i" "$ROOT/run/slurmd-n$i.pid"
done
export NODES
wait_for bash -c '[ "$(sinfo -h -p debug -N -o %T | grep -c "^idle$")" = "$NODES" ]'; ms "$NODES nodes idle"
sinfo
