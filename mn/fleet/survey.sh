echo "ready=yes";
IFS= read -r secret;
echo "now=$(date +%s.%N)";
get() { sed -n "s/^$1=//p" /etc/os-release 2>/dev/null | tr -d "\"" | head -n 1; };
newest() { for p in python3 python3.14 python3.13 python3.12 python3.11; do
    path=$(command -v "$p") || continue;
    found=$("$path" -c "import sys; print(\"%d.%d\" % sys.version_info[:2], sys.executable)" 2>/dev/null);
    [ -n "$found" ] || continue;
    [ -n "$first" ] || first=$found;
    case $found in 3.[0-9]" "*|3.10" "*) ;; 3.*) echo "python=$found"; return;; esac;
  done; [ -z "$first" ] || echo "python=$first"; };
run=; admin=no;
if [ "$(id -u)" = 0 ]; then echo "root=yes"; admin=yes;
elif sudo -n true 2>/dev/null; then run="sudo -n"; admin=yes;
elif printf "%s\n" "$secret" | sudo -S -p "" true 2>/dev/null; then run="sudo -n"; admin=yes; fi;
secret=;
echo "admin=$admin";
echo "architecture=$(uname -m)";
echo "kernel=$(uname -r)";
echo "distribution=$(get ID)";
echo "distribution_like=$(get ID_LIKE)";
echo "distribution_version=$(get VERSION_ID)";
echo "distribution_name=$(get PRETTY_NAME)";
echo "machine_id=$(head -n 1 /etc/machine-id 2>/dev/null)";
newest;
echo "libc=$(getconf GNU_LIBC_VERSION 2>/dev/null || ldd --version 2>&1 | head -n 1)";
echo "virtualisation=$(grep -m 1 -o -w -e vmx -e svm /proc/cpuinfo | head -n 1)";
[ ! -c /dev/kvm ] || echo "kvm=yes";
[ ! -d /run/systemd/system ] || echo "systemd=yes";
[ ! -d /run/systemd/system ] || ! systemctl is-active --quiet firewalld || echo "firewalld=yes";
home=/opt/hardpoint/$agent;
current=$(readlink "$home/current") && echo "agent_version=${current##*/}";
for d in "$home"/*/.complete; do [ ! -f "$d" ] || [ -h "${d%/.complete}" ] || { d=${d%/.complete}; echo "release=${d##*/}"; }; done;
if [ "$admin" = yes ] && [ -d /etc/hardpoint/$agent ]; then
  state=/var/lib/hardpoint/$agent;
  for f in "$state/owner.json" /etc/hardpoint/$agent/owner.json; do
    $run cat "$f" 2>/dev/null | tr -d "\n" | sed "s/^/owner=/;s/\$/\n/"; done;
  for f in "$state/installed.pem" /etc/hardpoint/$agent/agent.pem; do
    $run sed -n "/BEGIN CERTIFICATE/,/END CERTIFICATE/s/^/certificate=/p" "$f" 2>/dev/null | grep . && break; done;
  $run sed -n "/BEGIN CERTIFICATE/,/END CERTIFICATE/s/^/authority=/p" /etc/hardpoint/$agent/ca.pem 2>/dev/null;
fi;
echo "end=yes"
