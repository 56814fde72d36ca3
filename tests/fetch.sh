# fetch.sh: functions that download Debian's packages and unpack them below target/test-deps without installing them,
# and that install tools of cargo. Source it in the root of the project.
# shellcheck shell=sh
deps=target/test-deps
mkdir -p "$deps"

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# tool NAME VERSION: installs a tool of cargo in the version that the tree was last checked with, compiled without
# optimisation.
tool() {
    cargo install --list | grep -x "cargo-$1 v$2:" >/dev/null || cargo install --quiet --locked --debug "cargo-$1" --version "$2"
}

# The Debian mirror of this machine. apt knows it once it has its lists.
# shellcheck disable=SC2016
mirror() {
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk '$3 == "main" && $2 !~ /-/ { print $1; exit }'
}

# libraries PACKAGE…: prints the packages of libraries that these packages need, recursively. For fetch, with its
# options.
libraries() {
    known=' ' new=$*
    while [ -n "$new" ]; do
        # shellcheck disable=SC2086
        new=$(apt-cache $options depends --important $new |
            awk -v known="$known" '$1 ~ /Depends:$/ && $2 ~ /^lib/ && !index(known, " " $2 " ") && !seen[$2]++ { print $2 }')
        # shellcheck disable=SC2086
        known="$known$(printf '%s ' $new)"
    done
    echo "$known"
}

# fetch NAME SUITE COMPONENT ARCHITECTURE [--libraries] PACKAGE…: unpacks only these packages into $deps/NAME. With
# --libraries also the libraries that they need, under the names that the suite has for them now.
fetch() {
    unpack download "$@"
}

# The same with all dependencies: a tree in which their programs run.
fetch_whole() {
    unpack "install --download-only --no-install-recommends --yes" "$@"
}

# fetch_source NAME SUITE COMPONENT PACKAGE: unpacks the upstream source of a package into $deps/NAME.
fetch_source() {
    [ ! -d "$deps/$1" ] || return 0
    lists "$1" deb-src "$2" "$3" "$(dpkg --print-architecture)"
    # shellcheck disable=SC2086
    (cd "$apt" && apt-get $options source --download-only "$4")
    tar -C "$apt/root" -xf "$apt"/*.orig.tar.*
    mv "$apt/root" "$deps/$1"
    rm -rf "$apt"
}

# lists NAME TYPE SUITE COMPONENT ARCHITECTURE: gives apt lists of its own, of packages (deb) or sources (deb-src), in
# the directory $apt; $options makes apt use them.
lists() {
    [ -n "$(mirror)" ] || as_root apt-get update -q
    apt=$PWD/$deps/apt-$1
    rm -rf "$apt"
    mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/empty" "$apt/root"
    # For this apt no package is installed.
    : >"$apt/status"
    echo "$2 [arch=$5 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) $3 $4" >"$apt/sources.list"
    options="-q -o Dir::State::Lists=$apt/lists -o Dir::State::Status=$apt/status -o Dir::Cache=$apt
        -o Dir::Etc::SourceList=$apt/sources.list -o Dir::Etc::SourceParts=$apt/empty -o APT::Sandbox::User=
        -o APT::Architecture=$5 -o APT::Architectures=$5"
    # shellcheck disable=SC2086
    apt-get $options update
}

unpack() {
    how=$1 name=$2 suite=$3 component=$4 architecture=$5
    shift 5
    [ ! -d "$deps/$name" ] || return 0
    lists "$name" deb "$suite" "$component" "$architecture"
    if [ "$1" = --libraries ]; then
        shift
        # shellcheck disable=SC2046
        set -- "$@" $(libraries "$@")
    fi
    # shellcheck disable=SC2086
    (cd "$apt/archives" && apt-get $options $how "$@")
    for package in "$apt"/archives/*.deb; do
        dpkg-deb -x "$package" "$apt/root"
    done
    mv "$apt/root" "$deps/$name"
    rm -rf "$apt"
}
