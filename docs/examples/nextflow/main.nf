// Train every fold, evaluate, and segment further scans with all models together:
//   nextflow run main.nf --dataset Task04_Hippocampus --scans scans
// A training must find its checkpoint again when it is retried: all processes share `params.work` and pass its path on.
params.work = "${launchDir}/work"
params.train = '' // further options of `unetpipe train`

process preprocess {
    output: val params.work
    script: "unetpipe preprocess ${file(params.dataset)} --out ${params.work}"
}

process train {
    accelerator 1
    errorStrategy 'retry'
    maxRetries 3
    input: tuple val(work), val(fold)
    output: val "${work}/runs/default/fold_${fold}"
    script: "unetpipe train ${work} --fold ${fold} ${params.train}"
}

process evaluate {
    input: val models
    script: "unetpipe evaluate ${params.work} --cross-validation --out ${launchDir}/report"
}

process infer {
    accelerator 1
    input: val models
    script: "unetpipe infer ${models.sort().join(' --model ')} ${file(params.scans)} --out ${launchDir}/labels --skip-existing"
}

workflow {
    models = train(preprocess().combine(channel.of(0, 1, 2, 3, 4))).collect()
    evaluate(models)
    infer(models)
}
