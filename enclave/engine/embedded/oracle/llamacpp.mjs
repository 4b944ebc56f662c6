// Runs jobs on llama.cpp: reads {model, jobs: [{text, markup} | {ids, generate, repeat}]} from standard input and writes
// one result for each job, {ids} or {ids, promptSeconds, generateSeconds}: processor time of the whole process. One thread,
// greedy, caches in F32.
import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";
import {readFileSync} from "node:fs";
const require = createRequire(process.argv[2] + "/");
const {getLlama} = await import(pathToFileURL(require.resolve("node-llama-cpp")));
const {model: modelPath, jobs} = JSON.parse(readFileSync(0, "utf8"));
const llama = await getLlama({gpu: false, build: "never", skipDownload: true, maxThreads: 1, logLevel: "error"});
const model = await llama.loadModel({modelPath});
const seconds = () => { const u = process.cpuUsage(); return (u.user + u.system) / 1e6; };
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
process.stdout.write(JSON.stringify(results));
process.exit(0);
