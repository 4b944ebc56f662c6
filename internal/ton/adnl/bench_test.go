package adnl

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"
)

// An answer of the benchmarks: a stream of chunks over one HTTP/2 connection.
type answer struct {
	io.ReadCloser
	next chan int // sizes of the chunks to send
}

// open starts a server and asks it for an answer, over HTTP/2 with TLS, as HTTPS hosts are reached, or over ADNL.
func open(b *testing.B, overADNL bool) *answer {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	key := identity(1)
	p := new(http.Protocols)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	var tr *http.Transport
	url, serving := "https://bench", net.Listener(nil)
	if overADNL {
		d := &Dialer{ID: idOf(key), record: &Record{Key: public(key), Addrs: []netip.AddrPort{at(l.Addr().String())}, Expires: time.Now().Add(time.Hour)}}
		tr, url, serving = d.Transport(), "http://bench", Listen(l, key)
	} else {
		cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, cert, cert, public(key), key)
		if err != nil {
			b.Fatal(err)
		}
		serving = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: []string{"h2"}})
		tr = &http.Transport{Protocols: p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the certificate is of this run
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
			}}
	}
	a := &answer{next: make(chan int)}
	data := make([]byte, 1<<20)
	srv := &http.Server{Protocols: p, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		c.Flush()
		for {
			select {
			case n := <-a.next:
				for ; n > 0; n -= len(data) {
					chunk := data[:min(n, len(data))]
					binary.BigEndian.PutUint64(chunk, uint64(time.Since(epoch)))
					w.Write(chunk)
				}
				c.Flush()
			case <-r.Context().Done():
				return
			}
		}
	})}
	go srv.Serve(serving)
	b.Cleanup(func() { srv.Close() })
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		b.Fatal(err)
	}
	if resp.ProtoMajor != 2 {
		b.Fatal(resp.Proto)
	}
	a.ReadCloser = resp.Body
	return a
}

var epoch = time.Now()

// receive has n bytes sent and returns how long ago the first of them left, and how long all took.
func (a *answer) receive(b *testing.B, buf []byte, n int) (oneWay, all time.Duration) {
	begin := time.Now()
	a.next <- n
	if _, err := io.ReadFull(a, buf[:8]); err != nil {
		b.Fatal(err)
	}
	oneWay = time.Since(epoch) - time.Duration(binary.BigEndian.Uint64(buf))
	for n -= 8; n > 0; {
		m, err := a.Read(buf[:min(len(buf), n)])
		if n -= m; err != nil {
			b.Fatal(err)
		}
	}
	return oneWay, time.Since(begin)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkTransport compares ADNL with HTTPS (HTTP/2 over TLS 1.3) in one run: each iteration sends 100 chunks of 200 bytes,
// as answers come, and 16 MiB over either. Limits: latency/https 1.5, bandwidth/https 0.5. Where other programs run beside it,
// cpu/https says more of the bandwidth than the clock does: what either costs both ends in processor time; its limit is 2.
func BenchmarkTransport(b *testing.B) {
	const bulk = 16 << 20
	buf := make([]byte, 64<<10)
	answers := [2]*answer{open(b, false), open(b, true)}
	var latency, took [2][]time.Duration
	var work [2]time.Duration
	for i := 0; b.Loop(); i++ {
		for j := range answers {
			k := (i + j) % 2 // neither always first
			for range 100 {
				oneWay, _ := answers[k].receive(b, buf, 200)
				latency[k] = append(latency[k], oneWay)
			}
			c0 := cpu()
			_, all := answers[k].receive(b, buf, bulk)
			work[k] += cpu() - c0
			took[k] = append(took[k], all)
		}
	}
	https, adnl := median(latency[0]), median(latency[1])
	b.ReportMetric(float64(https.Nanoseconds())/1e3, "https-us")
	b.ReportMetric(float64(adnl.Nanoseconds())/1e3, "adnl-us")
	b.ReportMetric(float64(adnl)/float64(https), "latency/https")
	b.ReportMetric(float64(work[1])/float64(work[0]), "cpu/https")
	slow, fast := median(took[1]), median(took[0])
	b.ReportMetric(bulk/1e6/fast.Seconds(), "https-MB/s")
	b.ReportMetric(bulk/1e6/slow.Seconds(), "adnl-MB/s")
	b.ReportMetric(float64(fast)/float64(slow), "bandwidth/https")
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
