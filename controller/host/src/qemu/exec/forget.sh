# Ends a named command when it still runs, and removes all that is known of it. Arguments: directory of all commands, name.
d=$1/$2
[ -d "$d" ] || exit 0
if ! flock -s -n "$d/lock" true && [ -e "$d/pid" ]; then
	read -r pid < "$d/pid"
	kill -9 "-$pid"
fi
rm -rf "$d"
