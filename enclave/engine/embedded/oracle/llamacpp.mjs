// Runs jobs on llama.cpp, which is installed in the folder of the first argument. Reads
// [{model, jobs: [{text, markup} | {ids, generate, repeat}]}] from the file of the second one and writes, for each model,
// one result for each job: {ids} or {ids, promptSeconds, generateSeconds}, in processor time of the whole process. One
// thread, greedy, caches in F32.
import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";
import {readFileSync} from "node:fs";
const require = createRequire(process.argv[2] + "/");
const {getLlama} = await import(pathToFileURL(require.resolve("node-llama-cpp")));
const llama = await getLlama({gpu: false, build: "never", skipDownload: true, maxThreads: 1, logLevel: "error"});
const answers = [];
for (const {model: modelPath, jobs} of JSON.parse(readFileSync(process.argv[3], "utf8"))) {
    const model = await llama.loadModel({modelPath});
    answers.push(await ask(model, jobs));
    await model.dispose();
}
process.stdout.write(JSON.stringify(answers), () => process.exit(0));

function seconds() {
    const u = process.cpuUsage();
    return (u.user + u.system) / 1e6;
}

async function ask(model, jobs) {
    let context;
    const results = [];
    for (const job of jobs) {
        if (job.text !== undefined) {
            results.push({ids: Array.from(model.tokenize(job.text, job.markup))});
            continue;
        }
        context ??= await model.createContext({contextSize: Math.min(model.trainContextSize, 2048), batchSize: 512, threads: 1,
            flashAttention: false, experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32"});
        const sequence = context.getSequence();
        let best;
        for (let run = 0; run < (job.repeat ?? 1); run++) {
            await sequence.clearHistory();
            const ids = [], start = seconds();
            let first, last;
            for await (const token of sequence.evaluate(job.ids, {temperature: 0, yieldEogToken: true})) {
                last = seconds();
                first ??= last;
                ids.push(token);
                if (ids.length >= job.generate) break;
            }
            const result = {ids, promptSeconds: first - start, generateSeconds: last - first};
            best ??= result;
            best.promptSeconds = Math.min(best.promptSeconds, result.promptSeconds);
            best.generateSeconds = Math.min(best.generateSeconds, result.generateSeconds);
        }
        results.push(best);
        sequence.dispose();
    }
    return results;
}
