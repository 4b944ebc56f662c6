// Compiles channel.tolk and compares the result with the committed channel.boc.
//   node build.mjs           rebuild and compare; exit status 1 when they differ
//   node build.mjs --write   rebuild and replace
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { getTolkCompilerVersion, runTolkCompiler } from '@ton/tolk-js'

const here = dirname(fileURLToPath(import.meta.url))
const source = 'channel.tolk'
const committed = join(here, 'channel.boc')

const result = await runTolkCompiler({
  entrypointFileName: source,
  fsReadCallback: (path) => readFileSync(join(here, path), 'utf8'),
})
if (result.status === 'error') {
  console.error(result.message)
  process.exit(1)
}
const built = Buffer.from(result.codeBoc64, 'base64')
console.log(`${source}: Tolk ${await getTolkCompilerVersion()}, ${built.length} bytes, code hash ${result.codeHashHex.toLowerCase()}`)
if (process.argv.includes('--fift')) console.log(result.fiftCode)
if (process.argv.includes('--write')) {
  writeFileSync(committed, built)
} else if (!built.equals(readFileSync(committed))) {
  console.error('channel.boc is not what this source compiles to; run `node build.mjs --write` and review the change')
  process.exit(1)
}
