// Package ton is access to TON for clients and hosts: a chain client that
// believes only what it can prove, amounts in nanogram, and the machine that
// runs get methods.
//
// [Dial] takes any global.config.json (mainnet, testnet, the devnet in
// internal/ton/devnet). Its init block is the root of trust: every head is
// followed from there by validators' signatures, and every account state and
// transaction by Merkle proofs from a head. Get methods run on this machine
// over proven state, because a liteserver's own results carry no proof. Each
// call moves on to the next liteserver when one is slow, dead, stale or lying.
//
// [Chain] is the part that the rest of Bombyx uses, small enough to fake.
// Wallets are in internal/ton/wallet.
package ton
