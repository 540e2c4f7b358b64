# Starts a named command unless it was started before, waits for its end, and tells how it stands.
# Arguments: directory of all commands, name, seconds to wait, bytes of output to show, start|look, runner.sh,
#   limit of each output (512-byte blocks), then NAME=VALUE... program arguments...
# Prints one line "state code stdout-size stderr-size stdout-shown stderr-shown cut", then the ends of both outputs.
set -u
PATH=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin} HOME=${HOME:-/root}
export PATH HOME
base=$1 name=$2 wait=$3 shown=$4 mode=$5 runner=$6 limit=$7
shift 7
d=$base/$name
umask 077
if [ "$mode" = start ] && [ ! -d "$d" ]; then
	new=$base/.$name.$$
	mkdir -p "$base" && rm -rf "$new" && mkdir "$new" || exit 70
	cat > "$new/stdin" && mkfifo "$new/out" "$new/err" && : > "$new/stdout" && : > "$new/stderr" || exit 70
	# Held by the runner as long as it lives, so that its death can be told whatever kills it.
	exec 9> "$new/lock"
	flock -x 9 || exit 70
	# The claim: of several that ask, one succeeds, and what it put in place is complete.
	if mv -T "$new" "$d" 2> /dev/null; then
		setsid sh -c "$runner" clusterctl-exec "$d" "$limit" "$@" < /dev/null > /dev/null 2>&1 &
	else
		rm -rf "$new"
	fi
	exec 9>&-
	# Whoever asked for these is gone: an hour after its end a command is forgotten. In the background, and silent.
	find "$base" -mindepth 2 -maxdepth 2 -name status -mmin +60 -exec sh -c 'rm -rf "${1%/*}"' x {} \; < /dev/null > /dev/null 2>&1 &
fi
if [ ! -d "$d" ]; then
	[ "$mode" = look ] || exit 70
	echo "unknown 0 0 0 0 0 0"
	exit
fi
finished() { [ -e "$d/status" ]; }
if ! finished && [ "$wait" -gt 0 ]; then
	timeout "$wait" flock -s "$d/lock" true
fi
state=running code=0 cut=0
if finished; then
	state=exited
elif flock -s -n "$d/lock" true; then
	# It may have finished since.
	if finished; then state=exited; else state=lost; fi
fi
[ "$state" = exited ] && read -r code < "$d/status"
[ -e "$d/stdout.cut" ] || [ -e "$d/stderr.cut" ] && cut=1
out=$(($(wc -c < "$d/stdout"))) err=$(($(wc -c < "$d/stderr")))
out_shown=$((out < shown ? out : shown)) err_shown=$((err < shown ? err : shown))
echo "$state $code $out $err $out_shown $err_shown $cut"
tail -c "+$((out - out_shown + 1))" "$d/stdout" | head -c "$out_shown"
tail -c "+$((err - err_shown + 1))" "$d/stderr" | head -c "$err_shown"
