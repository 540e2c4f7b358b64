# Runs one command to its end, whoever asked for it. Started by ask.sh in a session of its own, with the lock on fd 9.
# Arguments: directory, limit of each output (512-byte blocks), then NAME=VALUE... program arguments...
d=$1 limit=$2
shift 2
cd /
trap : USR1
# Keeps what comes out of a pipe up to the limit; goes on reading, so that the command never blocks on us.
keep() {
	{
		(trap "" XFSZ; ulimit -f "$limit"; exec cat > "$2") || { : > "$2.cut"; cat > /dev/null; }
	} < "$1"
}
echo $$ > "$d/pid"
# Nobody but this shell may hold the lock; a redirection would leave a copy of it in the subshell.
(exec 9>&-; keep "$d/out" "$d/stdout") & kept_out=$!
(exec 9>&-; keep "$d/err" "$d/stderr") & kept_err=$!
env "$@" < "$d/stdin" > "$d/out" 2> "$d/err" 9>&-
code=$?
# Whatever the command left running may hold its outputs open: it is given a second, and not waited for.
(exec 9>&-; sleep 1; kill -USR1 $$) & timer=$!
wait "$kept_out" && wait "$kept_err"
kill "$timer"
echo "$code" > "$d/status.partial" && mv "$d/status.partial" "$d/status"
