package envelope

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/bombyx-network/bombyx/internal/bhttp"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func atNoon() time.Time { return noon }

// newPair is a client and an enclave that share a key.
func newPair(t testing.TB, k KEM, aeads ...AEAD) (*Sender, *Receiver) {
	t.Helper()
	kp, err := GenerateKey(7, k, aeads...)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReceiver(NewReplayGuard(0, 0, atNoon), bhttp.Limits{}, kp)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSender(kp.Config())
	if err != nil {
		t.Fatal(err)
	}
	s.Now = atNoon
	return s, r
}

func newRequest(t testing.TB, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequest("POST", "https://enclave.example/v1/chat/completions?x=1", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer secret")
	return req
}

func sealAll(t testing.TB, s *Sender, req *http.Request) ([]byte, *ResponseOpener) {
	t.Helper()
	sealed, opener, err := s.Seal(req)
	if err != nil {
		t.Fatal(err)
	}
	wire, err := io.ReadAll(sealed)
	if err != nil {
		t.Fatal(err)
	}
	if n := sealed.Len(); n >= 0 && n != int64(len(wire)) {
		t.Fatalf("Len is %d, %d bytes came out", n, len(wire))
	}
	return wire, opener
}

func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// Sizes around every edge: chunks, padding units, length encodings.
var sizes = []int{0, 1, 2, 3, 63, 64, 200, 700, 800, 1023, 1024, 15<<10 + 200, MaxChunk - 300, MaxChunk - 200, MaxChunk - 100, MaxChunk - 3, MaxChunk - 2,
	MaxChunk - 1, MaxChunk, MaxChunk + 1, 2*MaxChunk - 500, 2*MaxChunk - 100, 2 * MaxChunk, 5*MaxChunk + 17, 300_000}

func TestRequestRoundTrip(t *testing.T) {
	for _, suite := range []struct {
		KEM
		AEAD
	}{{XWing, AES256GCM}, {XWing, ChaCha20Poly1305}, {X25519, AES128GCM}} {
		s, r := newPair(t, suite.KEM, suite.AEAD)
		for _, size := range sizes {
			for _, known := range []bool{true, false} {
				for name, slow := range map[string]func(io.Reader) io.Reader{
					"whole": func(r io.Reader) io.Reader { return r }, "half": iotest.HalfReader, "data with EOF": iotest.DataErrReader,
				} {
					t.Run(fmt.Sprintf("%v %v/%d known %v %s", suite.KEM, suite.AEAD, size, known, name), func(t *testing.T) {
						want := text(size)
						req := newRequest(t, slow(bytes.NewReader(want)))
						if known {
							req.ContentLength = int64(size)
						}
						wire, _ := sealAll(t, s, req)
						got, _, err := r.Open(t.Context(), slow(bytes.NewReader(wire)))
						if err != nil {
							t.Fatal(err)
						}
						body, err := io.ReadAll(got.Body)
						if err != nil {
							t.Fatal(err)
						}
						if !bytes.Equal(body, want) {
							t.Fatal("the body changed")
						}
						if known && got.ContentLength != int64(size) && size > 0 {
							t.Fatalf("ContentLength %d", got.ContentLength)
						}
						if got.Method != "POST" || got.Host != "enclave.example" || got.URL.String() != "https://enclave.example/v1/chat/completions?x=1" ||
							got.Header.Get("Authorization") != "Bearer secret" {
							t.Fatalf("head changed: %+v", got)
						}
					})
				}
			}
		}
	}
}

// exchange runs one exchange in memory: handler answers, the wire goes through alter.
func exchangeWith(t testing.TB, s *Sender, r *Receiver, req *http.Request, handler func(*ResponseWriter, *http.Request), alter func([]byte) []byte,
	informational func(int, http.Header),
) (*http.Response, error) {
	t.Helper()
	wire, opener := sealAll(t, s, req)
	got, sealer, err := r.Open(t.Context(), bytes.NewReader(wire))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	handler(sealer.Respond(&out, nil), got)
	answer := out.Bytes()
	if alter != nil {
		answer = alter(answer)
	}
	return opener.Open(bytes.NewReader(answer), informational)
}

func TestResponseRoundTrip(t *testing.T) {
	s, r := newPair(t, XWing, AES256GCM)
	for _, size := range sizes {
		for _, flush := range []int{0, 1, 29, 200, 5000} {
			t.Run(fmt.Sprintf("%d by %d", size, flush), func(t *testing.T) {
				want := text(size)
				if flush == 1 && size > 5000 {
					want = want[:5000]
				}
				resp, err := exchangeWith(t, s, r, newRequest(t, nil), func(w *ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "text/event-stream")
					w.Header().Set("Trailer", "Receipt")
					w.WriteHeader(http.StatusCreated)
					rest := want
					for flush > 0 && len(rest) > flush {
						w.Write(rest[:flush])
						w.Flush()
						rest = rest[flush:]
					}
					w.Write(rest)
					w.Header().Set("Receipt", "signed")
					w.Header().Set(http.TrailerPrefix+"Other", "too")
					if err := w.Close(); err != nil {
						t.Fatal(err)
					}
				}, nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(body, want) {
					t.Fatal("the body changed")
				}
				if resp.StatusCode != http.StatusCreated || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Receipt") != "" {
					t.Fatalf("head changed: %+v", resp)
				}
				if resp.Trailer.Get("Receipt") != "signed" || resp.Trailer.Get("Other") != "too" {
					t.Fatalf("trailers: %v", resp.Trailer)
				}
			})
		}
	}
}

func TestInformational(t *testing.T) {
	s, r := newPair(t, XWing, AES256GCM)
	var got []string
	resp, err := exchangeWith(t, s, r, newRequest(t, nil), func(w *ResponseWriter, _ *http.Request) {
		for i := range 3 {
			w.Header().Set("Cost", fmt.Sprint(i))
			w.WriteHeader(http.StatusProcessing)
		}
		w.Header().Del("Cost")
		io.WriteString(w, "done")
		w.Close()
	}, nil, func(status int, h http.Header) { got = append(got, fmt.Sprint(status, " ", h.Get("Cost"))) })
	if err != nil {
		t.Fatal(err)
	}
	if want := "[102 0 102 1 102 2]"; fmt.Sprint(got) != want {
		t.Errorf("informational responses %v, want %v", got, want)
	}
	if resp.Header.Get("Cost") != "" {
		t.Error("an informational field is in the final header")
	}
}

// Every prefix of an answer is an error, never a short answer; so is every flipped bit.
func TestResponseTamper(t *testing.T) {
	s, r := newPair(t, XWing, AES256GCM)
	answer := func(w *ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusProcessing)
		for range 3 {
			w.Write(text(100))
			w.Flush()
		}
		w.Close()
	}
	size := 0
	try := func(alter func([]byte) []byte) error {
		resp, err := exchangeWith(t, s, r, newRequest(t, nil), answer, alter, nil)
		if err != nil {
			return err
		}
		_, err = io.ReadAll(resp.Body)
		return err
	}
	if err := try(func(b []byte) []byte { size = len(b); return b }); err != nil {
		t.Fatal(err)
	}
	for i := range size {
		if i%7 == 0 || i > size-40 || i < 40 {
			if err := try(func(b []byte) []byte { return b[:i] }); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("cut at %d of %d: %v", i, size, err)
			}
			if err := try(func(b []byte) []byte { b[i] ^= 1 << (i % 8); return b }); err == nil {
				t.Errorf("flipped bit in byte %d of %d: accepted", i, size)
			}
		}
	}
	if err := try(func(b []byte) []byte { return append(b, 0) }); err == nil {
		t.Error("trailing byte accepted")
	}
}

func TestRequestTamper(t *testing.T) {
	s, r := newPair(t, X25519, AES256GCM)
	for i := 0; ; i++ {
		wire, _ := sealAll(t, s, newRequest(t, strings.NewReader("hello")))
		if i >= len(wire) {
			break
		}
		open := func(b []byte) error {
			req, _, err := r.Open(t.Context(), bytes.NewReader(b))
			if err == nil {
				_, err = io.ReadAll(req.Body)
			}
			return err
		}
		if err := open(wire[:i]); !errors.Is(err, ErrTruncated) {
			t.Errorf("cut at %d: %v", i, err)
		}
		wire[i] ^= 0x10
		if err := open(wire); err == nil {
			t.Errorf("byte %d flipped: accepted", i)
		}
	}
}

func TestOverHTTP(t *testing.T) {
	s, r := newPair(t, XWing, AES256GCM)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		req, sealer, err := r.Open(hr.Context(), hr.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		// Without this, a HTTP/1 server stops reading when the answer starts.
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Content-Type", ResponseMediaType)
		rw := sealer.Respond(w, http.NewResponseController(w).Flush)
		if _, err := io.Copy(rw, req.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		if req.URL.Path == "/abort" {
			rw.Flush()
			panic(http.ErrAbortHandler)
		}
		rw.Close()
	}))
	defer srv.Close()
	do := func(path string, body []byte) ([]byte, error) {
		req := newRequest(t, bytes.NewReader(body))
		req.URL.Path = path
		sealed, opener, err := s.Seal(req)
		if err != nil {
			t.Fatal(err)
		}
		post, _ := http.NewRequestWithContext(context.Background(), "POST", srv.URL, nil)
		sealed.Apply(post)
		res, err := http.DefaultClient.Do(post)
		if err != nil {
			return nil, err
		}
		defer res.Body.Close()
		if res.StatusCode != 200 || res.Header.Get("Content-Type") != ResponseMediaType {
			b, _ := io.ReadAll(res.Body)
			return nil, errors.New(string(b))
		}
		resp, err := opener.Open(res.Body, nil)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return io.ReadAll(resp.Body)
	}
	for _, n := range []int{0, 100, 100_000, 1 << 20} {
		got, err := do("/echo", text(n))
		if err != nil || !bytes.Equal(got, text(n)) {
			t.Errorf("%d bytes: %v, %d back", n, err, len(got))
		}
	}
	if got, err := do("/abort", text(100)); !errors.Is(err, ErrTruncated) {
		t.Errorf("an aborted answer gave %d bytes, %v", len(got), err)
	}
}
