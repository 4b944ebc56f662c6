// Runs the recorded contract suite through the C++ TVM of @ton/sandbox: same exit codes, gas, fees, payouts and data.
// `make sandbox` records the suites of channel and registry, and runs this on each.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Cell, beginCell, loadMessage, loadShardAccount, loadTransaction, storeShardAccount } from '@ton/core'
import { Executor, createEmptyShardAccount } from '@ton/sandbox'

const path = process.env.BOMBYX_CONTRACT_RECORD
if (!path) throw new Error('set BOMBYX_CONTRACT_RECORD to the file that the Go suite recorded')

const chains = new Map()
for (const line of readFileSync(path, 'utf8').split('\n').filter(Boolean)) {
  const step = JSON.parse(line)
  if (!chains.has(step.chain)) chains.set(step.chain, { name: step.test, config: step.config, steps: [] })
  chains.get(step.chain).steps.push(step)
}
assert.ok(chains.size > 5, 'the record is not a whole suite')

let executor = await Executor.create()
let transactions = 0

for (const [id, chain] of chains) {
  test(`${chain.name} (chain ${id})`, async () => {
    let account // one contract on each chain
    let lt = 1_000_000n
    for (const [i, step] of chain.steps.entries()) {
      const where = `message ${i}`
      const message = Cell.fromBase64(step.message)
      if (step.accepted && step.txs === null) continue // to an account that does not run
      const dest = loadMessage(message.beginParse()).info.dest
      account ??= beginCell().store(storeShardAccount(createEmptyShardAccount(dest))).endCell()
      lt += 1000n
      let result
      try {
        ({ result } = await executor.runTransaction({
          config: chain.config, libs: null, verbosity: 'short', shardAccount: account.toBoc().toString('base64'),
          now: step.now, lt, randomSeed: Buffer.alloc(32), ignoreChksig: false, debugEnabled: false, message,
        }))
      } catch (thrown) {
        // The C++ side throws on a message that no node would let in. Nothing else may make it.
        assert.equal(step.accepted, false, `${where}: ${thrown}`)
        executor = await Executor.create()
        continue
      }
      if (!step.accepted) {
        assert.equal(result.success, false, `${where}: accepted by the C++ TVM only`)
        continue
      }
      assert.equal(result.success, true, `${where}: accepted by the Go TVM only: ${result.error}`)
      assert.equal(step.txs.length, 1, where)
      const want = step.txs[0]
      const tx = loadTransaction(Cell.fromBase64(result.transaction).beginParse())
      account = Cell.fromBase64(result.shardAccount)
      const { computePhase, actionPhase } = tx.description
      const out = [...tx.outMessages.values()]
      const state = loadShardAccount(account.beginParse()).account?.storage.state
      assert.deepEqual({
        exitCode: computePhase.type === 'vm' ? computePhase.exitCode : want.exitCode,
        skipped: computePhase.type === 'skipped',
        success: computePhase.type === 'vm' && computePhase.success && Boolean(actionPhase?.success),
        gas: computePhase.type === 'vm' ? Number(computePhase.gasUsed) : 0,
        fees: Number(tx.totalFees.coins),
        forward: out.reduce((sum, m) => sum + Number(m.info.forwardFee), 0),
        out: out.map((m) => Number(m.info.value.coins)),
        data: state?.type === 'active' && state.state.data ? state.state.data.hash().toString('hex') : '',
      }, want, where)
      transactions++
    }
  })
}

test('something ran', () => {
  console.log(`\n${chains.size} chains, ${transactions} transactions compared: exit codes, gas, fees, payouts, data`)
  assert.ok(transactions > 20)
})
