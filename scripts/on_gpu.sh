#!/bin/sh
# Everything that wants a GPU, in order of worth: checks first, then what decides most. A study may be
# killed and goes on when called again with the same folder, where all it has found so far is kept. Its
# figures are written there too, to be moved to scripts/results/ once looked at.
#
#     HYPERGEN_DATA=... sh scripts/on_gpu.sh FOLDER [STUDY ...]
#
# STUDY: tests, check, first, generated, mnist, speed, activations, front, gradients, kwta; by default
# all, in this order. PYTHON is the interpreter (python3), LIMIT the most seconds for each (no limit),
# OPTIONS are given to every study that has a brief form (--quick, for a rehearsal). Ends with status 1
# if one of them failed, at once when it was `check`: what is computed wrongly is worth nothing.
set -u
folder=${1:?a folder for the figures}
shift
known="tests check first generated mnist speed activations front gradients kwta"
wanted=" ${*:-$known} "
for name in $wanted; do
    case " $known " in *" $name "*) ;; *) echo "unknown study $name; known: $known" >&2 && exit 2 ;; esac
done
status=0
mkdir -p "$folder"

study() {
    echo "== $*"
    timeout "${LIMIT:-0}" "${PYTHON:-python3}" -m "$@" && return
    echo "failed: $*"
    status=1
    return 1
}
brief() { study "$@" ${OPTIONS:-}; }
is() { case $wanted in *" $1 "*) true ;; *) false ;; esac; }
activations() {
    brief scripts.study_activations --work "$folder/activations" --out "$folder/activations.json" "$@"
}

if is tests; then
    # Without optuna, say, some files cannot be read; the others' tests run.
    OMP_NUM_THREADS=1 study pytest -n 8 -q -k cuda --continue-on-collection-errors
fi
if is check; then
    study scripts.check_cuda --work "$folder/check-cuda" --out "$folder/check-cuda.json" ||
        exit 1
fi
if is first; then
    activations --only resnet20-relu resnet20-swish
fi
if is generated; then
    # As FBF trains: one step of attack, attacked images alone.
    brief scripts.study_generated_activations --dataset cifar10 --target resnet20 \
        --activations swish --ways direct "direct from fbf" hybrid value --samples 16 --seeds 1 \
        --steps 10000 "--train=--beta 1 --attack-steps 1 --batch-size 128 \
        --measure-every 64 --surprise 1" "--judge=--attack standard --restarts 10" \
        --work "$folder/generated" --out "$folder/generated.json"
fi
if is mnist && [ -z "${OPTIONS:-}" ]; then # it has no brief form
    for epsilon in 0.1 0.2 0.3; do
        study scripts.mnist_table --epsilon $epsilon --generators 3 --direct-steps 30000 \
            --long-steps 30000 --value-steps 30000 --work "$folder/mnist-table" --out "$folder"
    done
fi
if is speed; then
    brief scripts.bench_scaling --compiled --work "$folder/scaling" --out "$folder/scaling.json"
    [ -n "${OPTIONS:-}" ] ||
        study scripts.bench_population --networks 256 --turn 256 --out "$folder/bench.json"
fi
if is activations; then
    activations
fi
if is front; then
    brief scripts.front --work "$folder/front" --out "$folder/front.json"
    brief scripts.front --train.dataset cifar10 --train.target resnet20 --train.epsilon None \
        --work "$folder/front-resnet20" --out "$folder/front-resnet20.json"
fi
if is gradients; then
    brief scripts.study_exploding_gradients --work "$folder/exploding" \
        --out "$folder/exploding.json"
fi
if is kwta; then # pretrained weights would have to be downloaded
    brief scripts.study_kwta --datasets cifar10 --starts scratch --work "$folder/kwta" \
        --out "$folder/kwta.json"
fi
exit $status
