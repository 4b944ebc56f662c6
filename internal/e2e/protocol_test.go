package e2e

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudflare/circl/hpke"
	"github.com/cloudflare/circl/kem"
	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/envelope"
	"github.com/bombyx-network/bombyx/internal/manifest"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/receipt"
	"github.com/bombyx-network/bombyx/internal/session"
	"github.com/bombyx-network/bombyx/internal/ton/adnl"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/registry"
)

// A vector is one "vector" block of docs/protocol.md: lines of a name, two spaces or more, and a value; a line that
// begins with a space goes on with the value before it.
type vector struct {
	t      *testing.T
	values map[string]string
	used   map[string]bool
}

// text returns an input.
func (v *vector) text(name string) string {
	v.t.Helper()
	s, ok := v.values[name]
	if !ok {
		v.t.Fatalf("the vector has no %q", name)
	}
	v.used[name] = true
	return s
}

func (v *vector) hex(name string) []byte {
	v.t.Helper()
	b, err := hex.DecodeString(v.text(name))
	if err != nil {
		v.t.Fatalf("%s: %v", name, err)
	}
	return b
}

func (v *vector) hex32(name string) [32]byte {
	v.t.Helper()
	b := v.hex(name)
	if len(b) != 32 {
		v.t.Fatalf("%s: %d bytes", name, len(b))
	}
	return [32]byte(b)
}

func (v *vector) number(name string) uint64 {
	v.t.Helper()
	n, err := strconv.ParseInt(v.text(name), 10, 64)
	if err != nil {
		v.t.Fatalf("%s: %v", name, err)
	}
	return uint64(n)
}

// key reads an Ed25519 seed.
func (v *vector) key(name string) ed25519.PrivateKey {
	v.t.Helper()
	seed := v.hex32(name)
	return ed25519.NewKeyFromSeed(seed[:])
}

// want compares a result: text as it is, bytes in hexadecimal, numbers in decimal.
// terms are a channel's, under the client's key.
func (v *vector) terms(key ed25519.PrivateKey) channel.Params {
	return channel.Params{Payee: channel.Address(v.hex32("payee")), Client: channel.Address(v.hex32("client")), ClientKey: [32]byte(key.Public().(ed25519.PublicKey)),
		CloseDelay: uint32(v.number("close_delay")), ExpiresAt: uint32(v.number("expires_at")), Salt: v.number("salt")}
}

func (v *vector) want(name string, got any) {
	v.t.Helper()
	var s string
	switch x := got.(type) {
	case []byte:
		s = hex.EncodeToString(x)
	case [32]byte:
		s = hex.EncodeToString(x[:])
	case [64]byte:
		s = hex.EncodeToString(x[:])
	default:
		s = fmt.Sprint(got)
	}
	v.used[name] = true
	if v.values[name] != s {
		v.t.Errorf("docs/protocol.md has %s\n  %s\nand the code\n  %s", name, v.values[name], s)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(x T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
}

// The vectors of docs/protocol.md are what the code computes.
func TestProtocolVectors(t *testing.T) {
	doc := must[[]byte](t)(os.ReadFile("../../docs/protocol.md"))
	blocks := map[string]string{}
	for _, m := range regexp.MustCompile("(?ms)^```vector ([a-z]+)\n(.*?)^```$").FindAllStringSubmatch(string(doc), -1) {
		if _, ok := blocks[m[1]]; ok {
			t.Errorf("two vectors %q", m[1])
		}
		blocks[m[1]] = m[2]
	}
	for name, check := range vectors {
		t.Run(name, func(t *testing.T) {
			body, ok := blocks[name]
			if !ok {
				t.Fatal("docs/protocol.md lacks this vector")
			}
			v := &vector{t, map[string]string{}, map[string]bool{}}
			last := ""
			for line := range strings.Lines(body) {
				line = strings.TrimSuffix(line, "\n")
				if strings.HasPrefix(line, " ") {
					v.values[last] += strings.TrimSpace(line)
					continue
				}
				label, value, ok := strings.Cut(line, "  ")
				if _, twice := v.values[label]; !ok || twice {
					t.Fatalf("malformed or repeated line %q", line)
				}
				last, v.values[label] = label, strings.TrimSpace(value)
			}
			check(v)
			for label := range v.values {
				if !v.used[label] {
					t.Errorf("nothing checks %q", label)
				}
			}
		})
	}
	for name := range blocks {
		if vectors[name] == nil {
			t.Errorf("nothing checks the vector %q", name)
		}
	}
}

var vectors = map[string]func(*vector){
	"keyset": func(v *vector) {
		k := must[*envelope.KeyPair](v.t)(envelope.NewKeyPair(byte(v.number("key id")), envelope.XWing, v.hex("x-wing seed"), envelope.AES256GCM, envelope.ChaCha20Poly1305))
		configs := must[[]byte](v.t)(envelope.MarshalKeyConfigs([]envelope.KeyConfig{k.Config()}))
		v.want("sha-256 of public key", sha256.Sum256(k.Config().PublicKey))
		v.want("key configurations, bytes", len(configs))
		v.want("first 5 bytes of them", configs[:5])
		v.want("last 10 bytes of them", configs[len(configs)-10:])
		v.want("sha-256 of key configurations", sha256.Sum256(configs))
		s := keyset.Keyset{KeyConfigs: configs, ReceiptKey: v.hex("receipt key"), TLSSPKI: v.hex32("tls spki"), NotAfter: time.Unix(int64(v.number("not after")), 0),
			ModelManifest: v.hex32("model manifest"), Build: v.hex32("build"), Config: v.hex32("configuration")}
		b := must[[]byte](v.t)(s.Encode())
		v.want("keyset, bytes", len(b))
		v.want("sha-256 of keyset", keyset.Digest(b))
		if again := must[*keyset.Keyset](v.t)(keyset.Parse(b)); !bytes.Equal(must[[]byte](v.t)(again.Encode()), b) {
			v.t.Error("does not parse to itself")
		}
	},
	"binding": func(v *vector) {
		statement := attestation.Statement(v.hex32("nonce"), []byte(v.text("keyset, ascii")))
		v.want("statement", statement)
		v.want("gpu nonce", attestation.DeviceNonce(statement))
		v.want("report data, no devices", attestation.ReportData(statement, nil))
		devices := []attestation.Device{{Kind: attestation.DeviceKind(v.text("device kind")), Report: []byte(v.text("device report, ascii")), Certificates: []byte(v.text("device certificates, ascii"))}}
		v.want("devices", attestation.DevicesDigest(devices))
		v.want("report data", attestation.ReportData(statement, devices))
		v.want("epoch nonce", attestation.Epoch{Seqno: uint32(v.number("epoch seqno")), RootHash: v.hex32("epoch root hash")}.Nonce())
	},
	"evidence": func(v *vector) {
		doc := []byte(v.text("document"))
		e := must[*attestation.Evidence](v.t)(attestation.ParseEvidence(doc))
		v.want("digest", sha256.Sum256(doc))
		v.want("nonce", e.Nonce)
		v.want("keyset, ascii", string(e.Keyset))
		v.want("mode", string(e.Mode))
		v.want("cpu kind", string(e.CPU.Kind))
		v.want("quote", e.CPU.Quote)
		v.want("device report", e.Devices[0].Report)
		if again := must[[]byte](v.t)(e.Encode()); !bytes.Equal(again, doc) {
			v.t.Errorf("encodes as %s", again)
		}
	},
	"manifest": func(v *vector) {
		doc := []byte(v.text("document"))
		m := must[*manifest.Manifest](v.t)(manifest.Parse(doc))
		v.want("model", m.Models[0].ID)
		v.want("digest", sha256.Sum256(doc))
	},
	"prices": func(v *vector) {
		var l price.List
		if err := json.Unmarshal([]byte(v.text("list")), &l); err != nil {
			v.t.Fatal(err)
		}
		b := v.hex("encoding")
		v.want("digest", sha256.Sum256(b))
		v.want("digest", must[[32]byte](v.t)(l.Digest()))
		var u price.Usage
		if err := json.Unmarshal([]byte(v.text("usage")), &u); err != nil {
			v.t.Fatal(err)
		}
		v.want("cost", must[uint64](v.t)(l[v.text("model")].Cost(u)))
	},
	"card": func(v *vector) {
		key := v.key("identity seed")
		v.want("host key", []byte(key.Public().(ed25519.PublicKey)))
		s := v.text("card")
		c := must[*card.Card](v.t)(card.Verify(s, key.Public().(ed25519.PublicKey), time.Unix(int64(v.number("now")), 0)))
		v.want("payload", string(must[[]byte](v.t)(base64.RawURLEncoding.DecodeString(strings.Split(s, ".")[1]))))
		v.want("card", must[string](v.t)(card.Sign(c, key)))
	},
	"session": func(v *vector) {
		key := v.key("channel seed")
		r := session.Request{Host: v.hex32("host key"), Time: int64(v.number("time")), Terms: v.terms(key)}
		b := r.Sign(key)
		v.want("account id", [32]byte(r.Terms.Address()))
		v.want("bytes", len(b))
		v.want("request", b)
		if _, err := session.Verify(b, r.Host, time.Unix(0, r.Time)); err != nil {
			v.t.Error(err)
		}
	},
	"receipt": func(v *vector) {
		key := v.key("receipt seed")
		v.want("receipt key", []byte(key.Public().(ed25519.PublicKey)))
		s := v.text("receipt")
		r := must[*receipt.Receipt](v.t)(receipt.Verify(s, key.Public().(ed25519.PublicKey)))
		v.want("payload", string(must[[]byte](v.t)(base64.RawURLEncoding.DecodeString(strings.Split(s, ".")[1]))))
		v.want("receipt", must[string](v.t)(receipt.Sign(r, key)))
		head := receipt.NextHead([32]byte{}, s)
		v.want("head after it", head)
		v.want("head after it twice", receipt.NextHead(head, s))
	},
	"padding": func(v *vector) {
		for n := range v.values {
			v.want(n, envelope.PaddedLen(int64(must[int](v.t)(strconv.Atoi(n)))))
		}
	},
	"sealed": func(v *vector) {
		// By the words of the document alone, on circl's HPKE.
		t := v.t
		scheme := hpke.KEM_XWING.Scheme()
		sk := must[kem.PrivateKey](t)(scheme.UnmarshalBinaryPrivateKey(v.hex("x-wing seed")))
		sealed := v.hex("request")
		header, enc := sealed[:7], sealed[7:7+1120]
		v.want("header", header)
		info := append([]byte("message/bhttp chunked request\x00"), header...)
		receiver := must[*hpke.Receiver](t)(hpke.NewSuite(hpke.KEM_XWING, hpke.KDF_HKDF_SHA256, hpke.AEAD_AES256GCM).NewReceiver(sk, info))
		opener := must[hpke.Opener](t)(receiver.Setup(enc))
		rest := sealed[7+1120:]
		if rest[0] != 0 {
			t.Fatal("not a single final chunk")
		}
		plain := must[[]byte](t)(opener.Open(rest[1:], []byte("final")))
		v.want("request's message, bytes", len(plain))
		v.want("request's message, without its zeros at the end", bytes.TrimRight(plain, "\x00"))

		answer := v.hex("answer")
		prk := must[[]byte](t)(hkdf.Extract(sha256.New, opener.Export([]byte("message/bhttp chunked response"), 32), append(bytes.Clone(enc), answer[:32]...)))
		block := must[cipher.Block](t)(aes.NewCipher(must[[]byte](t)(hkdf.Expand(sha256.New, prk, "key", 32))))
		gcm := must[cipher.AEAD](t)(cipher.NewGCM(block))
		nonce := must[[]byte](t)(hkdf.Expand(sha256.New, prk, "nonce", 12)) // the first chunk's: XOR 0
		if answer[32] != 0 {
			t.Fatal("not a single final chunk")
		}
		plain = must[[]byte](t)(gcm.Open(nil, nonce, answer[33:], []byte("final")))
		v.want("answer's message, bytes", len(plain))
		v.want("answer's message, without its zeros at the end", bytes.TrimRight(plain, "\x00"))
	},
	"channel": func(v *vector) {
		v.want("code hash", channel.CodeHash())
		key := v.key("client seed")
		p := v.terms(key)
		v.want("client key", p.ClientKey)
		v.want("hash of the initial data", p.StateInit().Data.Hash())
		v.want("channel, account id", [32]byte(p.Address()))
		init, err := tlb.ToCell(p.StateInit())
		if err != nil {
			v.t.Fatal(err)
		}
		v.want("state init", init.ToBOC())
		u := channel.Voucher{GlobalID: int32(v.number("global_id")), Channel: p.Address(), Total: v.number("total"), Head: v.hex32("head")}
		sv, sa := u.Sign(key), channel.Agreement(u).Sign(key)
		v.want("hash of the voucher", u.Hash())
		v.want("voucher on the wire", must[[]byte](v.t)(sv.MarshalBinary()))
		v.want("hash of the agreement", sa.Hash())
		v.want("agreement on the wire", must[[]byte](v.t)(sa.MarshalBinary()))
		v.want("hash of claim's body", channel.Claim(&sv, 0).Body.Hash())
		v.want("hash of close_together's", channel.CloseTogether(&sa, 0).Body.Hash())
		external, err := tlb.ToCell(channel.ClaimExternal(&sv))
		if err != nil {
			v.t.Fatal(err)
		}
		v.want("hash of external message", external.Hash())
	},
	"adnl": adnlVector,
	"registry": func(v *vector) {
		v.want("code hash", registry.Code().Hash())
		p := registry.Params{Owner: address.NewAddress(0, 0, v.hex("owner")), Delay: uint32(v.number("delay")), Salt: v.number("salt")}
		v.want("registry, account id", must[*address.Address](v.t)(p.Address()).Data())
		r := &registry.Record{Kind: registry.Kind(v.number("kind")), Status: registry.Status(v.number("status")), NotBefore: uint32(v.number("not_before")),
			NotAfter: uint32(v.number("not_after")), Recipe: v.hex32("recipe"), Name: v.text("name"), Version: v.text("version"), Document: []byte(v.text("document"))}
		c, err := r.Cell()
		if err != nil {
			v.t.Fatal(err)
		}
		v.want("key", r.Key())
		v.want("hash of the record", c.Hash())
		v.want("record", c.ToBOC())
		v.want("history afterwards", registry.Change{Seqno: 1, At: uint32(v.number("applied at")), Key: r.Key(), Content: c.HashKey()}.Hash())
	},
	"entry": func(v *vector) {
		pub := v.key("identity seed").Public().(ed25519.PublicKey)
		v.want("host key", []byte(pub))
		v.want("adnl", [32]byte(adnl.IDOf(pub)))
		e, err := card.ParseEntry([]byte(v.text("entry")))
		if err != nil {
			v.t.Fatal(err)
		}
		if !e.Key().Equal(pub) {
			v.t.Errorf("the entry is of %s", e.Host)
		}
		b, err := e.Encode()
		if err != nil {
			v.t.Fatal(err)
		}
		v.want("entry", string(b))
		v.want("sha-256", sha256.Sum256(b))
	},
}

// Every error code that a program can answer with is in the table of docs/protocol.md, and none that no program has.
func TestProtocolErrors(t *testing.T) {
	doc := string(must[[]byte](t)(os.ReadFile("../../docs/protocol.md")))
	_, section, ok := strings.Cut(doc, "\n## Errors\n")
	if !ok {
		t.Fatal("no section Errors")
	}
	if next := strings.Index(section, "\n## "); next >= 0 {
		section = section[:next]
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| ([0-9]{3}) \\| `([a-z_]+)` \\|").FindAllStringSubmatch(section, -1) {
		documented[m[1]+" "+m[2]] = true
	}
	var have []string
	for _, room := range []string{"../../host", "../../enclave", "../../client", "../../client/responses"} {
		entries := must[[]os.DirEntry](t)(os.ReadDir(room))
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
				continue
			}
			src := must[[]byte](t)(os.ReadFile(room + "/" + e.Name()))
			for _, m := range regexp.MustCompile(`apierror\.New\(([0-9]{3}), "([a-z_]+)"`).FindAllStringSubmatch(string(src), -1) {
				have = append(have, m[1]+" "+m[2])
			}
		}
	}
	if len(have) < 30 {
		t.Fatalf("found only %d codes in the sources", len(have))
	}
	for _, c := range have {
		if !documented[c] {
			t.Errorf("docs/protocol.md lacks error %s", c)
		}
	}
	for c := range documented {
		if !slices.Contains(have, c) {
			t.Errorf("docs/protocol.md has error %s, which no program answers", c)
		}
	}
}

// What docs/verifying.md says to do by hand works.
func TestVerifyingByHand(t *testing.T) {
	vectors := must[string](t)(filepath.Abs("../../../shared/vectors"))
	if _, err := os.Stat(vectors); err != nil {
		t.Skip("no real evidence at ../shared/vectors")
	}
	for _, tool := range []string{"bash", "openssl", "xxd", "jq", "csplit", "date", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s here", tool)
		}
	}
	doc := string(must[[]byte](t)(os.ReadFile("../../docs/verifying.md")))
	_, doc, ok := strings.Cut(doc, "\n## By hand\n")
	if !ok {
		t.Fatal("no section By hand")
	}
	doc, _, _ = strings.Cut(doc, "\n## ")
	var script strings.Builder
	for _, m := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(doc, -1) {
		script.WriteString(m[1])
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-c", script.String())
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "V="+vectors, "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"0400020081000000\n", "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3", "cert-0.pem: OK", "tcb-0.pem: OK",
		"TDATTRIBUTES  0000001000000000", `"20a06f000000"`, `"UpToDate"`, "verify OK", "20A06F000000"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if n := strings.Count(string(out), "Verified OK"); n != 3 {
		t.Errorf("%d signatures verified, want 3:\n%s", n, out)
	}
}
