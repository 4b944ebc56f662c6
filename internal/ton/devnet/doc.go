// Package devnet is a local TON network for development and tests.
//
// It runs real transactions on the TVM of tonutils-go, packs them into real
// blocks and states (masterchain and basechain), signs these with one
// validator, and answers the liteserver protocol over ADNL TCP, so that any
// TON client works on it unchanged and checks every proof. Prices, limits and
// the TVM version are mainnet's. Its tests read it with the unmodified client of
// tonutils-go; `make tongo` reads it with the unmodified client of tongo, and has
// the C++ TVM execute every transaction of a chain with a history again: the
// same hashes.
//
//	chain, err := devnet.New(devnet.Config{SealOnSend: true})
//	ls, err := chain.Serve(ctx, "127.0.0.1:0")
//	client, err := ton.Dial(ctx, chain.GlobalConfig(), ton.Options{})
//	err = chain.Fund(address, 5_000_000_000)
//
// What it is not: it has no validators' elections, no splitting of shards, no
// libraries in the masterchain, no tick-tock contracts and no block rewards.
// Every block lives in memory, so it suits days of development, not months. Its
// keys come from a seed in its directory: nothing on it is worth anything.
package devnet
