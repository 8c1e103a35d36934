#!/bin/sh
# Runs everything that wants a GPU: checks first, then what decides most. A study may be killed and goes
# on when called again with the same folder, where all it has found so far is kept. Its figures are
# written there too, to be moved to scripts/results/ once looked at.
#
#     HYPERGEN_DATA=... sh scripts/on_gpu.sh FOLDER [STUDY ...]
#
# STUDY: tests, check, first, generated, mnist, speed, activations, front, gradients, kwta,
# distributions, further; by default all, in this order. PYTHON is the interpreter (python3), LIMIT
# the most seconds for each (no limit), OPTIONS are given to every study that has a brief form
# (--quick, for a rehearsal). Ends with status 1 if one of them failed, at once when it was `check`:
# what is computed wrongly is worth nothing.
set -u
folder=${1:?a folder for the figures}
shift
known="tests check first generated mnist speed activations front gradients kwta"
known="$known distributions further"
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
full() { [ -n "${OPTIONS:-}" ] || echo "$@"; } # sizes, of which the brief form has its own
is() { case $wanted in *" $1 "*) true ;; *) false ;; esac; }
activations() {
    brief scripts.studies.activations --targets resnet20 vgg \
        --work "$folder/activations" --out "$folder/activations.json" "$@"
}
generated() { # the name of the figures, options of `hypergen train`, those of the study
    name=$1 train=$2
    shift 2
    # As FBF trains: one step of attack, attacked images alone. PGD in the papers' steps of 2/255.
    brief scripts.studies.generated_activations --dataset cifar10 --target resnet20 \
        $(full --samples 16 --seeds 1 --steps 10000 --images 1000) \
        "--train=--beta 1 --attack-steps 1 --batch-size 128 --max-robustness-gap 1 $train" \
        "--evaluate=--attack standard --restarts 10 --step-size 0.00784314" \
        --work "$folder/$name" --out "$folder/$name.json" "$@"
}
directly() {
    generated generated "--measure-every 64" --activations swish relu elu kaf kaf-swish \
        --ways direct "direct from fbf" "$@"
}
front() { # the name of the figures, options of the study
    name=$1
    shift
    brief scripts.compare.front $(full --asked 0 0.02 0.05 0.1 0.2 0.3 0.5 0.7 1) \
        --train.adversary.max-robustness-gap 1 \
        --work "$folder/$name" --out "$folder/$name.json" "$@"
}

if is tests; then
    # Without optuna, say, some files cannot be read; the others' tests run.
    OMP_NUM_THREADS=1 study pytest -n 8 -q -k cuda --continue-on-collection-errors
fi
if is check; then
    study scripts.bench.cuda --work "$folder/check-cuda" --out "$folder/check-cuda.json" ||
        exit 1
fi
if is first; then
    activations --only resnet20-relu resnet20-swish
fi
if is generated; then
    directly --only swish
    # The value network that these learn from is fitted at every step.
    generated generated-by-value "" --activations swish --ways hybrid value
fi
if is mnist && [ -z "${OPTIONS:-}" ]; then # it has no brief form
    for epsilon in 0.1 0.2 0.3; do
        study scripts.compare.mnist_table --epsilon $epsilon --generators 3 --direct-steps 30000 \
            --long-steps 30000 --value-steps 30000 --work "$folder/mnist-table" --out "$folder"
    done
fi
if is speed; then
    brief scripts.bench.growth --work "$folder/growth" --out "$folder/growth.json"
    # Every number of networks is compiled anew, which takes long.
    brief scripts.bench.growth --targets small-lenet5 $(full --most 256) --compiled \
        --work "$folder/growth-compiled" --out "$folder/growth-compiled.json"
    [ -n "${OPTIONS:-}" ] ||
        study scripts.bench.population --networks 256 --turn 256 --batch-size 1000 --trained 1 \
            --epochs 1 --out "$folder/bench.json"
fi
if is activations; then
    activations
fi
if is front; then
    front front
    front front-resnet20 --train.data.name cifar10 --train.target resnet20 \
        --train.adversary.epsilon None \
        --only fbf
fi
if is gradients; then
    brief scripts.studies.exploding_gradients --work "$folder/exploding" \
        --out "$folder/exploding.json"
fi
if is kwta; then # pretrained weights would have to be downloaded
    brief scripts.studies.kwta $(full --datasets cifar10 --starts scratch) --work "$folder/kwta" \
        --out "$folder/kwta.json"
fi
if is distributions; then
    brief scripts.studies.activation_distributions --work "$folder/distributions" \
        --out "$folder/distributions.json"
fi
if is further; then # the activations that `generated` left
    directly
fi
exit $status
