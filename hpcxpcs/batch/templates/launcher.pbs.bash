# The mpiexec in the folder of PBS's own programs starts no ranks of another MPI library.
program=@{program}
if ! launcher=$(command -v "$program"); then
    echo "=== no MPI launcher $program on PATH: load the module of the MPI library, or name the path of its launcher"
    exit 1
elif [[ -e ${launcher%/*}/pbsdsh && $(head -c 2 "$launcher") == '#!' ]]; then
    echo "=== $launcher belongs to PBS, not to the MPI library of mpi4py: load the module of that library first,"
    echo "=== or name its own launcher by its path (launcher in the site file, LAUNCHER in a script of your own)"
    exit 1
fi
