package receipt

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/bombyx-network/bombyx/internal/jws"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/strictjson"
)

var key = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
var pub = key.Public().(ed25519.PublicKey)

func sample() *Receipt {
	return &Receipt{Version: 1, ID: strings.Repeat("0a", 16), Channel: "0:" + strings.Repeat("11", 32), Model: "m",
		Evidence: Digest{0, 1}, Manifest: Digest{0, 2}, Request: Digest{0, 3}, Answer: Digest{0, 4}, Prices: Digest{0, 5},
		Usage: price.Usage{Prompt: 3, Completion: 2}, Cost: 7, Finish: Complete, Time: 1_800_000_000}
}

func TestRoundTrip(t *testing.T) {
	s, err := Sign(sample(), key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify(s, pub)
	if err != nil || *got != *sample() {
		t.Fatalf("%+v, %v", got, err)
	}
	h := NextHead([32]byte{}, s)
	d := sha256.Sum256([]byte(s))
	if want := sha256.Sum256(slices.Concat([]byte("bombyx/1 receipts"), make([]byte, 32), d[:])); h != want {
		t.Errorf("head %x, want %x", h, want)
	}
	if h == NextHead(h, s) || h == NextHead([32]byte{}, s+"x") {
		t.Error("head does not depend on its input")
	}
}

func TestRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Receipt){
		"channel":     func(r *Receipt) { r.Channel = strings.Repeat("1", 101) },
		"long model":  func(r *Receipt) { r.Model = strings.Repeat("m", price.MaxModelName+1) },
		"id beyond f": func(r *Receipt) { r.ID = strings.Repeat("0g", 16) },
		"id before 0": func(r *Receipt) { r.ID = strings.Repeat("0/", 16) },
		"id beyond 9": func(r *Receipt) { r.ID = strings.Repeat("0:", 16) },
		"version":     func(r *Receipt) { r.Version = 2 },
		"finish":      func(r *Receipt) { r.Finish = "well" },
		"cost":        func(r *Receipt) { r.Cost = MaxCost + 1 },
		"id":          func(r *Receipt) { r.ID = "1" },
		"id case":     func(r *Receipt) { r.ID = strings.ToUpper(r.ID) },
		"model":       func(r *Receipt) { r.Model = "" },
		"usage":       func(r *Receipt) { r.Usage.Cached = 9 },
	} {
		r := sample()
		spoil(r)
		if _, err := Sign(r, key); err == nil {
			t.Errorf("%s: signed", name)
		}
		b, _ := json.Marshal(r)
		if _, err := Verify(jws.Sign(jws.Receipt, key, b), pub); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
	most := sample()
	most.Channel, most.Model, most.Cost = strings.Repeat("1", 100), strings.Repeat("m", price.MaxModelName), MaxCost
	most.ID = strings.Repeat("09af", 8)
	if s, err := Sign(most, key); err != nil {
		t.Errorf("the most that there may be: %v", err)
	} else if _, err := Verify(s, pub); err != nil {
		t.Errorf("the most that there may be: %v", err)
	}
	for n, want := range map[int]string{MaxSize: "jws", MaxSize + 1: "limit"} {
		if _, err := Verify(strings.Repeat("x", n), pub); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes: %v, want %q", n, err, want)
		}
	}
	good, _ := json.Marshal(sample())
	for name, s := range map[string]string{
		"unknown member": jws.Sign(jws.Receipt, key, append(bytes.Clone(good[:len(good)-1]), `,"x":1}`...)),
		"card":           jws.Sign(jws.Card, key, good),
		"long":           jws.Sign(jws.Receipt, key, append(good, bytes.Repeat([]byte(" "), MaxSize)...)),
		"short digest":   jws.Sign(jws.Receipt, key, bytes.Replace(good, []byte(`"answer":"00`), []byte(`"answer":"`), 1)),
		"long digest":    jws.Sign(jws.Receipt, key, bytes.Replace(good, []byte(`"answer":"00`), []byte(`"answer":"0000`), 1)),
		"upper case":     jws.Sign(jws.Receipt, key, bytes.Replace(good, []byte(`"answer":"00`), []byte(`"answer":"AA`), 1)),
	} {
		if _, err := Verify(s, pub); err == nil {
			t.Errorf("%s: verified", name)
		}
	}
}

func FuzzVerify(f *testing.F) {
	s, _ := Sign(sample(), key)
	p, _ := jws.Payload(jws.Receipt, s)
	f.Add(p)
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := Verify(jws.Sign(jws.Receipt, key, payload), pub)
		if err == nil {
			if _, err := Sign(r, key); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzJSON holds the receipt's own encoder and decoder against encoding/json
// and strictjson.
func FuzzJSON(f *testing.F) {
	good, err := json.Marshal(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, c := range []struct{ from, to string }{{`"m"`, `"\\u006d"`}, {`"m"`, `"<é>"`}, {`"v":1`, `"v":01`}, {`"v":1`, `"v":null`}, {`"v":1`, `"v":1e0`}, {`:7`, `:18446744073709551616`}, {`:7`, `:-1`},
		{`1800000000`, `-5`}, {`1800000000`, `9223372036854775808`}, {`{"v":1`, `{"v":1,"v":1`}, {`{"v":1`, `{ "v":1`}, {`}}`, `} }`}, {`,"time":1800000000`, ``}, {`"00`, `"0A`}, {`"cached":0,`, ``}, {`complete`, `compl\xff`}} {
		f.Add(bytes.Replace(good, []byte(c.from), []byte(c.to), 1))
	}
	for _, text := range []string{"a&b", "a<b", "a>b", "\u2028", "\x7f", `\u0001`, `\"`, `\\`} {
		f.Add(bytes.Replace(good, []byte(`"m"`), []byte(`"`+text+`"`), 1))
	}
	for _, digit := range "/:`gAF" {
		f.Add(bytes.Replace(good, []byte(`"00`), []byte(`"0`+string(digit)), 1))
	}
	f.Add(bytes.Replace(good, []byte(`"00`), []byte(`"`), 1))
	f.Add(good[len(`{"v":`):])
	f.Add(append(good, '}'))
	f.Add(good[:len(good)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > MaxSize {
			return
		}
		want := new(Receipt)
		wantErr := strictjson.Decode(b, MaxSize, want)
		got, err := decode(b)
		if (err == nil) != (wantErr == nil) || err == nil && *got != *want {
			t.Fatalf("%q: %+v, %v; want %+v, %v", b, got, err, want, wantErr)
		}
		if err != nil {
			return
		}
		wantJSON, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if gotJSON := got.appendJSON(nil); !bytes.Equal(gotJSON, wantJSON) {
			t.Fatalf("%s, want %s", gotJSON, wantJSON)
		}
	})
}

// A receipt takes neither reflection nor another decoder.
func TestSpelling(t *testing.T) {
	b := sample().appendJSON(nil)
	if got, err := decode(b); err != nil || *got != *sample() {
		t.Fatal(got, err)
	}
	if n := testing.AllocsPerRun(100, func() { decode(b) }); n > 3 {
		t.Errorf("%v allocations: strictjson decodes it", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	doc := sample().appendJSON(nil)
	b.Run("strictjson", func(b *testing.B) {
		for b.Loop() {
			if err := strictjson.Decode(doc, MaxSize, new(Receipt)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("own", func(b *testing.B) {
		for b.Loop() {
			if _, err := decode(doc); err != nil {
				b.Fatal(err)
			}
		}
	})
}
