package envelope

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/bombyx-network/bombyx/internal/bhttp"
)

func newBuffered(b []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(b)) }

func FuzzKeyConfigs(f *testing.F) {
	for _, c := range [][]KeyConfig{{config(f, 1, X25519, AES128GCM)}, {config(f, 1, XWing, AES256GCM), config(f, 2, X25519, AES256GCM, ChaCha20Poly1305)}} {
		b, err := MarshalKeyConfigs(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		configs, err := ParseKeyConfigs(b)
		if err != nil {
			return
		}
		again, err := MarshalKeyConfigs(configs)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x was accepted and became %x, %v", b, again, err)
		}
		for _, c := range configs {
			if _, err := NewSender(c); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzOpenRequest feeds the receiver whatever comes, and whatever a client that holds the key may put inside.
func FuzzOpenRequest(f *testing.F) {
	kp, err := NewKeyPair(7, X25519, text(PrivateKeySize), AES256GCM)
	if err != nil {
		f.Fatal(err)
	}
	s, err := NewSender(kp.Config())
	if err != nil {
		f.Fatal(err)
	}
	s.Now = atNoon
	wire, _ := sealAll(f, s, newRequest(f, bytes.NewReader(text(100))))
	f.Add(wire, uint16(0))
	f.Add(wire[:headerSize+32], uint16(0))
	f.Add([]byte("\x00\x03GET\x05https\x01a\x01/\x23\x04date\x1dSun, 22 Nov 2026 12:00:00 GMT\x00\x00"), uint16(7))
	f.Add([]byte("\x02\x03GET\x05https\x01a\x01/\x04date\x1dSun, 22 Nov 2026 12:00:00 GMT\x00\x03abc\x00\x00\x00"), uint16(3))
	f.Fuzz(func(t *testing.T, b []byte, split uint16) {
		r, err := NewReceiver(NewReplayGuard(0, 0, atNoon), bhttp.Limits{}, kp)
		if err != nil {
			t.Fatal(err)
		}
		read := func(wire []byte) {
			req, sealer, err := r.Open(t.Context(), bytes.NewReader(wire))
			if err != nil {
				return
			}
			if sealer == nil || req.Header.Get("Date") == "" {
				t.Error("a request without a sealer or a Date")
			}
			io.Copy(io.Discard, req.Body)
		}
		read(b)
		x, err := s.schedule.sender(s.pk)
		if err != nil {
			t.Fatal(err)
		}
		at := min(int(split), len(b), MaxChunk)
		sealed := append(bytes.Clone(s.schedule.header), x.enc...)
		if at == 0 {
			sealed = append(sealed, sealChunks(t, &x.request, b)...)
		} else {
			sealed = append(sealed, sealChunks(t, &x.request, b[:at], b[at:])...)
		}
		read(sealed)
	})
}

// FuzzOpenResponse feeds the client whatever comes, and whatever an enclave may put inside.
func FuzzOpenResponse(f *testing.F) {
	kp, err := NewKeyPair(7, X25519, text(PrivateKeySize), AES256GCM)
	if err != nil {
		f.Fatal(err)
	}
	s := kp.schedules[AES256GCM]
	pk, err := s.kem.UnmarshalBinaryPublicKey(kp.config.PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(make([]byte, 32+17), uint16(0))
	f.Add([]byte("\x03\x40\x66\x04cost\x011\x00\x40\xc8\x00\x03abc\x00\x06digest\x01x\x00\x00"), uint16(9))
	f.Add([]byte("\x01\x40\xc8\x00\x03abc\x00"), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, split uint16) {
		read := func(x *exchange, wire []byte) {
			resp, err := (&ResponseOpener{x: x}).Open(bytes.NewReader(wire), func(int, http.Header) {})
			if err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}
		x, err := s.sender(pk)
		if err != nil {
			t.Fatal(err)
		}
		y := *x
		x.secret = bytes.Clone(y.secret)
		read(x, b)
		nonce := make([]byte, 32)
		x.secret = bytes.Clone(y.secret)
		var c chunkCipher
		if err := x.responseCipher(&c, nonce); err != nil {
			t.Fatal(err)
		}
		at := min(int(split), len(b), MaxChunk)
		if at == 0 {
			read(&y, append(nonce, sealChunks(t, &c, b)...))
		} else {
			read(&y, append(nonce, sealChunks(t, &c, b[:at], b[at:])...))
		}
	})
}

// FuzzSpread pads content inside the stream.
func FuzzSpread(f *testing.F) {
	f.Add(200, 56)
	f.Fuzz(func(t *testing.T, n, pad int) {
		if n < 1 || n > MaxChunk-3 || pad < 0 || pad > MaxChunk {
			return
		}
		want := text(n)
		buf := make([]byte, 2+n+pad)
		copy(buf[2:], want)
		end := spread(buf, 0, 2+n, pad)
		r := append([]byte{3, 0x40, 0xc8, 0}, buf[:end]...)
		resp, err := bhttp.ReadResponse(newBuffered(append(r, 0)), nil, bhttp.Limits{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("content of %d bytes changed with padding of %d: %v", n, pad, err)
		}
	})
}
