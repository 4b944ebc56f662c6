// Compiles the project's contracts and compares each with the committed bag of cells beside its source.
//   node build.mjs           rebuild and compare; exit status 1 when one differs
//   node build.mjs --write   rebuild and replace
import { readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { getTolkCompilerVersion, runTolkCompiler } from '@ton/tolk-js'

const here = dirname(fileURLToPath(import.meta.url))
const version = await getTolkCompilerVersion()

for (const source of ['channel.tolk', '../../registry/contract/registry.tolk']) {
  const name = basename(source)
  const folder = dirname(join(here, source))
  const committed = join(here, source.replace(/\.tolk$/, '.boc'))
  const result = await runTolkCompiler({
    entrypointFileName: name,
    fsReadCallback: (path) => readFileSync(join(folder, path), 'utf8'),
  })
  if (result.status === 'error') {
    console.error(result.message)
    process.exit(1)
  }
  const built = Buffer.from(result.codeBoc64, 'base64')
  console.log(`${name}: Tolk ${version}, ${built.length} bytes, code hash ${result.codeHashHex.toLowerCase()}`)
  if (process.argv.includes('--write')) {
    writeFileSync(committed, built)
  } else if (!built.equals(readFileSync(committed))) {
    console.error(`${basename(committed)} is not what ${name} compiles to; run \`node build.mjs --write\` and review the change`)
    process.exitCode = 1
  }
}
