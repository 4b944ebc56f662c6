// Command fees prints what each operation of the payment channel costs, from the TVM at mainnet's prices, beside the published
// costs of the same operations in Cocoon.
//
// The fee of an operation is everything that leaves the parties' money by the channel's own transaction: gas, the import of an
// external message, rent since the transaction before (an hour's in close-finish), and the delivery of what the channel sends.
// What a wallet pays to deliver its message to the channel is in a column of its own.
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"

	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/channel/emulator"
	"github.com/xssnick/tonutils-go/tlb"
)

const (
	gram     = 1_000_000_000
	globalID = -239
	now      = 1_800_000_000
)

// cocoon holds Cocoon's published fees in nanogram.
var cocoon = map[string]struct {
	name string
	fee  uint64
}{
	"claim":          {"payout", 10_600_000},
	"close-start":    {"refund start", 6_700_000},
	"close-finish":   {"forced refund", 12_200_000},
	"close-together": {"withdraw", 11_900_000},
}

// cost is one measured operation; fees in nanogram.
type cost struct {
	name     string
	gas      uint64
	fee      uint64
	delivery uint64 // paid by the sender's wallet
}

func main() {
	costs, err := measure()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fees: error:", err)
		os.Exit(1)
	}
	fmt.Printf("%-15s %6s %12s %14s   %s\n", "operation", "gas", "fee, GRAM", "wallet's part", "Cocoon, GRAM")
	for _, c := range costs {
		line := fmt.Sprintf("%-15s %6d %12s %14s", c.name, c.gas, grams(c.fee), grams(c.delivery))
		if other, ok := cocoon[c.name]; ok {
			line += fmt.Sprintf("   %s (%s)", grams(other.fee), other.name)
		}
		fmt.Println(line)
	}
}

func named(s string) [32]byte { return sha256.Sum256([]byte(s)) }

// measure runs the life of two channels, one closed by the client alone and one by both.
func measure() ([]cost, error) {
	seed := named("client key")
	key := ed25519.NewKeyFromSeed(seed[:])
	params := channel.Params{
		Payee: named("payee"), Client: named("client"), ClientKey: [32]byte(key.Public().(ed25519.PublicKey)),
		CloseDelay: 3600, ExpiresAt: now + 30*24*3600,
	}
	at := params.Address()
	voucher := func(total uint64) *channel.SignedVoucher {
		s := channel.Voucher{GlobalID: globalID, Channel: at, Total: total, Head: named("head")}.Sign(key)
		return &s
	}
	agreement := channel.Agreement{GlobalID: globalID, Channel: at, Total: 3 * gram, Head: named("head")}.Sign(key)

	alone, err := emulator.New(globalID, now)
	if err != nil {
		return nil, err
	}
	together, err := emulator.New(globalID, now)
	if err != nil {
		return nil, err
	}
	var costs []cost
	send := func(c *emulator.Chain, name string, from channel.Address, m *tlb.InternalMessage) error {
		m.SrcAddr = from.Std()
		delivery, err := c.DeliveryFee(m)
		if err != nil {
			return err
		}
		txs, err := c.Send(m)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return record(&costs, name, txs, delivery)
	}
	for _, op := range []struct {
		name string
		from channel.Address
		m    *tlb.InternalMessage
	}{
		{"open", params.Client, channel.Open(params, 5*gram)},
		{"top-up", params.Client, channel.TopUp(at, gram)},
		{"claim", params.Payee, channel.Claim(voucher(gram), channel.GasValue)},
	} {
		if err := send(alone, op.name, op.from, op.m); err != nil {
			return nil, err
		}
	}
	txs, err := alone.SendExternal(channel.ClaimExternal(voucher(2 * gram)))
	if err != nil {
		return nil, fmt.Errorf("claim-external: %w", err)
	}
	if err = record(&costs, "claim-external", txs, 0); err != nil {
		return nil, err
	}
	if err = send(alone, "close-start", params.Client, channel.CloseStart(at, channel.GasValue)); err != nil {
		return nil, err
	}
	alone.Now += params.CloseDelay
	if err = send(alone, "close-finish", params.Client, channel.CloseFinish(at, channel.GasValue)); err != nil {
		return nil, err
	}
	open := channel.Open(params, 5*gram)
	open.SrcAddr = params.Client.Std()
	if _, err = together.Send(open); err != nil {
		return nil, err
	}
	err = send(together, "close-together", params.Payee, channel.CloseTogether(&agreement, channel.GasValue))
	return costs, err
}

func record(costs *[]cost, name string, txs []emulator.Tx, delivery uint64) error {
	if len(txs) != 1 || !txs[0].Success {
		return fmt.Errorf("%s failed: %w", name, channel.ExitCode(txs[0].ExitCode))
	}
	*costs = append(*costs, cost{name, txs[0].Gas, txs[0].Fees + txs[0].Forward, delivery})
	return nil
}

func grams(nano uint64) string {
	if nano == 0 {
		return "-"
	}
	return fmt.Sprintf("%d.%07d", nano/gram, (nano%gram+50)/100)
}
