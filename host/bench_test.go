package host

import (
	"crypto/ed25519"
	"crypto/rand"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/internal/pgtest"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
)

// BenchmarkAdmit takes vouchers as they come from the network until they are
// durable: parsed, verified, stored; from 512 clients at once with a channel
// each. The bare verification of as many signatures, in the same run, is the
// floor. Compare with host/ledger's BenchmarkPutVoucher.
func BenchmarkAdmit(b *testing.B) {
	const clients = 512
	for _, store := range []struct {
		name   string
		source func(testing.TB) string
	}{{"sqlite", func(t testing.TB) string { return filepath.Join(t.TempDir(), "l.db") }}, {"postgres", pgtest.Scratch}} {
		b.Run(store.name, func(b *testing.B) {
			l, err := ledger.Open(b.Context(), store.source(b), time.Now)
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			if err := l.Take(b.Context(), "e"); err != nil {
				b.Fatal(err)
			}
			h := &Host{cfg: Config{Network: network, Ledger: l}}
			_, key, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				b.Fatal(err)
			}
			pub := [32]byte(key.Public().(ed25519.PublicKey))
			accounts := make([]*account, clients)
			for i := range accounts {
				var at channel.Address
				rand.Read(at[:])
				accounts[i] = &account{address: at, name: at.Raw(), key: pub}
				if err := l.AddChannel(b.Context(), at.Raw(), pub[:]); err != nil {
					b.Fatal(err)
				}
			}
			wires := make([][]byte, b.N)
			vouchers := make([]channel.SignedVoucher, b.N)
			for i := range wires {
				vouchers[i] = channel.Voucher{GlobalID: network, Channel: accounts[i%clients].address, Total: uint64(i) + 1}.Sign(key)
				if wires[i], err = vouchers[i].MarshalBinary(); err != nil {
					b.Fatal(err)
				}
			}
			share := func(do func(i int)) time.Duration {
				var wg sync.WaitGroup
				var next atomic.Int64
				began := time.Now()
				for range clients {
					wg.Go(func() {
						for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
							do(int(i))
						}
					})
				}
				wg.Wait()
				return time.Since(began)
			}
			bare := share(func(i int) {
				if vouchers[i].Verify(pub) != nil {
					b.Error("a signature")
				}
			})
			b.ResetTimer()
			took := share(func(i int) {
				if fault := h.putVoucher(b.Context(), accounts[i%clients], wires[i]); fault != nil {
					b.Error(fault)
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/took.Seconds(), "vouchers/s")
			b.ReportMetric(float64(took)/float64(bare), "x-verification")
		})
	}
}
