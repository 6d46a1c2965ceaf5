# Ends a shared server, process $1, with its directory $2, $3 seconds after its
# last user. A user is a file named by a process's ID. The URL is withdrawn
# before the last look: who registers later finds none, and starts another.
postgres=$1 dir=$2 limit=$3 idle=0

in_use() {
  for user in "$dir"/users/*; do
    [ -e "$user" ] || continue
    kill -0 "${user##*/}" 2>/dev/null && return 0
    rm -f "$user"
  done
  return 1
}

while kill -0 "$postgres" 2>/dev/null && [ -d "$dir" ]; do
  if in_use; then idle=0; else idle=$((idle + 1)); fi
  if [ "$idle" -gt "$limit" ]; then
    mv "$dir/url" "$dir/withdrawn"
    in_use || break
    mv "$dir/withdrawn" "$dir/url"
    idle=0
  fi
  sleep 1
done
kill -QUIT "$postgres" 2>/dev/null
for _ in 1 2 3 4 5; do
  kill -0 "$postgres" 2>/dev/null || break
  sleep 1
done
rm -rf "$dir"
