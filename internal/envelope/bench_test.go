//go:build unix

package envelope

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/cloudflare/circl/hpke"
	"github.com/openpcc/ohttp"
)

// ratio reports how much more CPU an operation takes than its floor. Slices of both alternate, so that they see the same
// machine, and CPU time of the whole process is counted, garbage collector included, so that other programs do not.
func ratio(b *testing.B, unit string, batch int, op, floor func()) {
	var spent, least time.Duration
	for b.Loop() {
		t := cpuTime(b)
		for range batch {
			op()
		}
		u := cpuTime(b)
		for range batch {
			floor()
		}
		spent += u - t
		least += cpuTime(b) - u
	}
	b.ReportMetric(float64(spent)/float64(least), unit)
	b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N*batch), "cpu-ns/message")
	b.ReportMetric(float64(least.Nanoseconds())/float64(b.N*batch), "cpu-ns/floor")
	b.ReportMetric(0, "ns/op")
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRoundTrip1KiB seals and opens a 1 KiB request and a 1 KiB answer; the floor is the bare X-Wing encapsulation and
// decapsulation.
func BenchmarkRoundTrip1KiB(b *testing.B) {
	s, r := newPair(b, XWing, AES256GCM)
	r.guard = NewReplayGuard(0, 1<<30, atNoon)
	trip := newTrip(b, s, r, 1<<10)
	scheme := XWing.scheme()
	pk, sk, err := scheme.GenerateKeyPair()
	if err != nil {
		b.Fatal(err)
	}
	ratio(b, "x-xwing", 64, trip, func() {
		ct, _, _ := scheme.Encapsulate(pk)
		scheme.Decapsulate(sk, ct)
	})
}

// newTrip makes a function that runs one whole exchange in memory.
func newTrip(b *testing.B, s *Sender, r *Receiver, size int) func() {
	body := text(size)
	got := make([]byte, size+1)
	var wire, answer bytes.Buffer
	read := func(r io.Reader) {
		if n, err := io.ReadFull(r, got); n != size || err != io.ErrUnexpectedEOF {
			b.Fatal(n, err)
		}
	}
	return func() {
		req, err := http.NewRequest("POST", "https://enclave.example/v1/chat/completions", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer secret")
		sealed, opener, err := s.Seal(req)
		if err != nil {
			b.Fatal(err)
		}
		wire.Reset()
		io.Copy(&wire, sealed)
		in, sealer, err := r.Open(context.Background(), &wire)
		if err != nil {
			b.Fatal(err)
		}
		read(in.Body)
		answer.Reset()
		w := sealer.Respond(&answer, nil)
		w.Header().Set("Content-Type", "application/json")
		w.Write(got[:size])
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		resp, err := opener.Open(&answer, nil)
		if err != nil {
			b.Fatal(err)
		}
		read(resp.Body)
	}
}

// BenchmarkRoundTrip1KiBPeer is the same exchange against OpenPCC's implementation with the cheaper X25519 suite.
func BenchmarkRoundTrip1KiBPeer(b *testing.B) {
	s, r := newPair(b, XWing, AES256GCM)
	r.guard = NewReplayGuard(0, 1<<30, atNoon)
	trip := newTrip(b, s, r, 1<<10)

	pk, sk, err := hpke.KEM_X25519_HKDF_SHA256.Scheme().GenerateKeyPair()
	if err != nil {
		b.Fatal(err)
	}
	kp := ohttp.KeyPair{SecretKey: sk, KeyConfig: ohttp.KeyConfig{
		KeyID: 3, KemID: hpke.KEM_X25519_HKDF_SHA256, PublicKey: pk,
		SymmetricAlgorithms: []ohttp.SymmetricAlgorithm{{KDFID: hpke.KDF_HKDF_SHA256, AEADID: hpke.AEAD_AES256GCM}},
	}}
	gateway, err := ohttp.NewGateway(kp, ohttp.WithRequestValidator(nil))
	if err != nil {
		b.Fatal(err)
	}
	transport, err := ohttp.NewTransport(kp.KeyConfig, "http://relay.example")
	if err != nil {
		b.Fatal(err)
	}
	body := text(1 << 10)
	read := func(r io.Reader) []byte {
		got, err := io.ReadAll(r)
		if err != nil || len(got) != len(body) {
			b.Fatal(len(got), err)
		}
		return got
	}
	ratio(b, "x-openpcc-x25519", 64, trip, func() {
		sealed, opener, err := transport.Encapsulate(newRequest(b, bytes.NewReader(body)))
		if err != nil {
			b.Fatal(err)
		}
		wire, err := io.ReadAll(sealed.Body)
		if err != nil {
			b.Fatal(err)
		}
		sealed.Body = io.NopCloser(bytes.NewReader(wire))
		req, sealer, err := gateway.Decapsulate(sealed)
		if err != nil {
			b.Fatal(err)
		}
		answer, err := sealer.Encapsulate(&http.Response{
			StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(bytes.NewReader(read(req.Body))), ContentLength: int64(len(body)),
		})
		if err != nil {
			b.Fatal(err)
		}
		if wire, err = io.ReadAll(answer.Body); err != nil {
			b.Fatal(err)
		}
		answer.Body = io.NopCloser(bytes.NewReader(wire))
		resp, err := opener.Decapsulate(b.Context(), answer)
		if err != nil {
			b.Fatal(err)
		}
		read(resp.Body)
	})
}

// loopback hands each chunk from the writer straight to the reader.
type loopback struct{ b []byte }

func (l *loopback) Write(p []byte) (int, error) { l.b = append(l.b, p...); return len(p), nil }

func (l *loopback) Read(p []byte) (int, error) {
	if len(l.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, l.b)
	l.b = l.b[:copy(l.b, l.b[n:])]
	return n, nil
}

// BenchmarkChunk200 writes, flushes, seals, opens and reads one token's 200 bytes; the floor is one AES-256-GCM Seal and one
// Open of 200 bytes.
func BenchmarkChunk200(b *testing.B) {
	for name, bucket := range map[string]int{"bare": 1, "padded": DefaultBucket} {
		b.Run(name, func(b *testing.B) {
			s, r := newPair(b, XWing, AES256GCM)
			token := newToken(b, s, r, bucket)
			text, nonce, buf := text(200), make([]byte, 12), make([]byte, 0, 256)
			block, _ := aes.NewCipher(make([]byte, 32))
			gcm, _ := cipher.NewGCM(block)
			b.ReportAllocs()
			ratio(b, "x-gcm", 4096, token, func() {
				sealed := gcm.Seal(buf, nonce, text, nil)
				if _, err := gcm.Open(sealed[:0], nonce, sealed, nil); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// newToken makes a function that moves one token of 200 bytes from the enclave's writer to the client's reader.
func newToken(t testing.TB, s *Sender, r *Receiver, bucket int) func() {
	sealer, opener := started(t, s, r, "POST")
	pipe := &loopback{}
	w := sealer.Respond(pipe, nil)
	w.Bucket = bucket
	w.Flush()
	resp, err := opener.Open(pipe, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, got := text(200), make([]byte, 400)
	return func() {
		w.Write(token)
		w.Flush()
		if n, err := resp.Body.Read(got); n != 200 || err != nil {
			t.Fatal(n, err)
		}
	}
}

func TestTokenAllocatesNothing(t *testing.T) {
	s, r := newPair(t, XWing, AES256GCM)
	if n := testing.AllocsPerRun(1000, newToken(t, s, r, DefaultBucket)); n != 0 {
		t.Errorf("%v allocations a token", n)
	}
}

// BenchmarkBody1MiB moves a body of 1 MiB through one end, encapsulation included, or through both. GB/s is by CPU time:
// what one core can do.
func BenchmarkBody1MiB(b *testing.B) {
	const size = 1 << 20
	body, got := text(size), make([]byte, 64<<10)
	s, r := newPair(b, XWing, AES256GCM)
	seal := func(b *testing.B, w io.Writer) *ResponseOpener {
		sealed, opener, err := s.Seal(newRequest(b, bytes.NewReader(body)))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(w, sealed); err != nil {
			b.Fatal(err)
		}
		return opener
	}
	open := func(b *testing.B, src io.Reader) *ResponseSealer {
		r.guard = NewReplayGuard(0, 0, atNoon)
		req, sealer, err := r.Open(b.Context(), src)
		if err != nil {
			b.Fatal(err)
		}
		drain(b, req.Body, got, size)
		return sealer
	}
	answer := func(b *testing.B, sealer *ResponseSealer, out io.Writer) {
		w := sealer.Respond(out, nil)
		w.Write(body)
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
	var wire, out bytes.Buffer
	opener := seal(b, &wire)
	sealer := open(b, bytes.NewReader(wire.Bytes()))
	secret := bytes.Clone(sealer.x.secret)
	answer(b, sealer, &out)
	for name, f := range map[string]func(b *testing.B){
		"seal request": func(b *testing.B) { seal(b, io.Discard) },
		"open request": func(b *testing.B) { open(b, bytes.NewReader(wire.Bytes())) },
		"seal response": func(b *testing.B) {
			sealer.x.secret = bytes.Clone(secret)
			answer(b, sealer, io.Discard)
		},
		"open response": func(b *testing.B) {
			opener.x = &exchange{aead: sealer.x.aead, enc: sealer.x.enc, secret: bytes.Clone(secret)}
			resp, err := opener.Open(bytes.NewReader(out.Bytes()), nil)
			if err != nil {
				b.Fatal(err)
			}
			drain(b, resp.Body, got, size)
		},
		"seal and open request": func(b *testing.B) {
			wire.Reset()
			seal(b, &wire)
			open(b, bytes.NewReader(wire.Bytes()))
		},
	} {
		b.Run(name, func(b *testing.B) {
			t := cpuTime(b)
			for b.Loop() {
				f(b)
			}
			b.ReportMetric(float64(b.N)*size/float64(cpuTime(b)-t), "GB/cpu-s")
		})
	}
}

func drain(b *testing.B, r io.Reader, buf []byte, want int) {
	total := 0
	for {
		n, err := r.Read(buf)
		total += n
		if err == io.EOF {
			break
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if total != want {
		b.Fatal(total)
	}
}
