#!/bin/sh
# Everything that wants a GPU, in order of worth: checks first, then what decides most. Each line may
# be killed and goes on when called again with the same folder. Figures are written to FOLDER, to be
# moved to scripts/results/ once looked at.
#
#     HYPERGEN_DATA=... sh scripts/on_gpu.sh FOLDER [any options for a rehearsal: --quick]
set -eu
folder=$1
shift
study() {
    name=$1
    shift
    echo "== $name: $*"
    python -m "scripts.$name" "$@" || echo "$name failed"
}
mkdir -p "$folder"
python -m pytest -n 8 -q -k cuda || echo "tests failed"
study check_cuda --work "$folder/check-cuda" --out "$folder/check-cuda.json"
study bench_population --networks 256 --turn 256 --out "$folder/bench.json"
study bench_scaling --compiled --work "$folder/scaling" --out "$folder/scaling.json" "$@"
study study_activations --targets resnet20 --activations relu swish \
    --work "$folder/activations-first" --out "$folder/activations-first.json" "$@"
for objective in direct hybrid value; do
    study study_generated_activations --dataset cifar10 --target resnet20 --activations swish \
        --objective $objective --samples 16 --seeds 1 --work "$folder/generated-$objective" \
        --out "$folder/generated-$objective.json" "$@"
done
study study_activations --work "$folder/activations" --out "$folder/activations.json" "$@"
if [ $# = 0 ]; then # it has no brief form
    for epsilon in 0.1 0.2 0.3; do
        study mnist_table --epsilon $epsilon --generators 3 --direct-steps 30000 \
            --long-steps 30000 --value-steps 30000 --work "$folder/mnist-table" --out "$folder"
    done
fi
study front --work "$folder/front" --out "$folder/front.json" "$@"
study study_exploding_gradients --work "$folder/exploding" --out "$folder/exploding.json" "$@"
study study_kwta --datasets cifar10 --work "$folder/kwta" --out "$folder/kwta.json" "$@"
