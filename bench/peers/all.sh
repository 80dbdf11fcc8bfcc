#!/bin/bash
# Every figure of docs/benchmarks.md: bench/peers/all.sh [--write] [--quick]. With --write they go into the page; --quick takes
# short rounds, to see that everything works. Nothing else should run on the machine. ESPL_BUILD names another build folder,
# ESPL_PAGE the page of another machine, docs/benchmarks-zen4.md say.
set -eu
cd "$(dirname "$0")/../.."
write='' ort='' memory='' onednn='' pruned='' sparse='' csr=''
for option in "$@"; do
    case $option in
        --write) write=--write ;;
        --quick) ort='--rounds 3 --seconds 0.1' memory='--rounds 1' onednn='--rounds 3 --seconds 0.02' pruned='--rounds 3 --seconds 0.05' sparse='--rounds 1' csr='--rounds 3' ;;
        *) echo "usage: bench/peers/all.sh [--write] [--quick]" >&2; exit 2 ;;
    esac
done
[ -n "${ESPL_BUILD:-}" ] || make
cmake --build "${ESPL_BUILD:-build}" --target product checkkern
bench/peers/setup.sh
run() {
    bench/peers/.venv/bin/python bench/peers/"$@" $write
}
run limits.py
run ort.py --threads 1 2 $ort
for cpu in vnni avx2; do run ort.py --cpu $cpu $ort; done
run memory.py $memory
run onednn.py $onednn
for cpu in vnni avx2; do run onednn.py --cpu $cpu $onednn; done
run sparse.py $sparse
run weightonly.py $sparse
run pruned.py $pruned
run pruned.py --cpu vnni $pruned
run csr.py $csr
run csr.py --cpu avx2 $csr
run kernels.py
