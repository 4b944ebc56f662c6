package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/collateral/fetch/fetchtest"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/enclave"
	"github.com/bombyx-network/bombyx/enclave/engine"
	"github.com/bombyx-network/bombyx/host"
	"github.com/bombyx-network/bombyx/host/ledger"
	"github.com/bombyx-network/bombyx/internal/card"
	"github.com/bombyx-network/bombyx/internal/e2e"
	"github.com/bombyx-network/bombyx/internal/manifest"
	"github.com/bombyx-network/bombyx/internal/price"
	"github.com/bombyx-network/bombyx/internal/ton"
	"github.com/bombyx-network/bombyx/internal/ton/adnl"
	"github.com/bombyx-network/bombyx/internal/ton/channel"
	"github.com/bombyx-network/bombyx/internal/ton/wallet"
)

// mock is a command of the sessions alone: mock hardware, and a provider that runs on it.
func mockMain() {
	c := &cobra.Command{Use: "mock", SilenceUsage: true}
	c.AddCommand(mockEvidence(), mockMakers(), mockProvider(), mockTrusting(), mockAsk(), mockTamper(), mockCheapen(), mockGet(), mockShift())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if c.ExecuteContext(ctx) != nil {
		stop()
		os.Exit(1)
	}
}

// noon is when the evidence of the sessions is made.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// mockEvidence writes evidence of one mock node, a policy that pins its authorities, and their collateral.
func mockEvidence() *cobra.Command {
	var n attestationtest.NodeConfig
	var ago time.Duration // the policy is of now, and the collateral so old, instead of both from noon
	c := &cobra.Command{Use: "evidence DIR", Args: cobra.ExactArgs(1)}
	c.Flags().DurationVar(&ago, "ago", 0, "")
	c.Flags().BoolVar(&n.Debug, "debug", false, "")
	c.Flags().BoolVar(&n.SNP, "snp", false, "")
	c.Flags().StringVar(&n.Platform, "platform", "", "")
	c.RunE = func(_ *cobra.Command, args []string) error {
		n.Name, n.GPUs = "node", 1
		a := attestationtest.New("sessions")
		node, err := a.NewNode(n)
		if err != nil {
			return err
		}
		k := keyset.Keyset{KeyConfigs: []byte("key configurations"), ReceiptKey: make([]byte, 32), NotAfter: noon.Add(time.Hour)}
		keys, err := k.Encode()
		if err != nil {
			return err
		}
		doc, err := node.Collect(context.Background(), [32]byte{1}, keys)
		if err != nil {
			return err
		}
		data := [64]byte{2}
		var bare, aux []byte
		if n.SNP {
			bare, aux = node.SNPReport(data), node.AuxBlob()
		} else {
			bare = node.Quote(data)
		}
		today, published := noon, noon
		if ago != 0 {
			today = time.Now()
			published = today.Add(-ago)
		}
		pol, err := openPolicy(a, today).Encode()
		if err != nil {
			return err
		}
		e := a.Endorsements(attestationtest.CollateralOptions{Now: published})
		files := map[string][]byte{"evidence.json": doc, "quote.bin": bare, "quote.hex": []byte(hex.EncodeToString(bare)), "policy.json": pol,
			"collateral/a": e.TCBInfo, "collateral/b": e.QEIdentity, "collateral/c": e.TCBSigner, "collateral/d": e.RootCRL, "collateral/e": e.PlatformCRL,
			"collateral/deep/f": e.AMDCRL, "collateral/deep/g": e.AMDRoot, "collateral/NOTES": []byte("what these files are"), "roots/intel": e.IntelRoot, "roots/amd": e.AMDRoot,
			"gpu.bin": node.Devices([32]byte{3})[0].Report, "gpu.pem": node.Devices([32]byte{3})[0].Certificates, "damaged.bin": damaged(bare)}
		if !n.SNP { // an EGo program's report on the same machine, and what appraises it
			p, enclave := openPolicy(a, today), a.Enclave()
			p.SGX = &policy.SGX{TCB: p.TDX.TCB, Enclaves: []policy.SGXEnclave{{Name: "mock EGo program", Reason: "test", MRENCLAVE: policy.Want32{Value: enclave.MRENCLAVE},
				MRSIGNER: policy.Want32{Value: enclave.MRSIGNER}, ISVProdID: enclave.ISVProdID, MinISVSVN: enclave.ISVSVN}}}
			if files["ego/policy.json"], err = p.Encode(); err != nil {
				return err
			}
			quote := node.EnclaveQuote(data)
			header := binary.LittleEndian.AppendUint64([]byte{1, 0, 0, 0, 2, 0, 0, 0}, uint64(len(quote)))
			files["ego/report.bin"], files["ego/local.bin"] = append(header, quote...), []byte{1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
			files["ego/collateral/a"], files["ego/collateral/b"] = e.SGXTCBInfo, e.SGXQEIdentity
		}
		if n.SNP {
			files["aux.bin"], files["cut.bin"] = aux, aux[:24]
		}
		for i, rim := range e.RIMs {
			files[fmt.Sprintf("rims/%d.xml", i)] = rim
		}
		for name, b := range files {
			path := filepath.Join(args[0], name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

// mockMakers serves what the makers of the mock hardware serve, over HTTP, and over HTTPS behind a proxy. OUT gets MAKERS, its URL,
// and PROXIED, a URL that only the proxy at MAKERS can reach; CERT the certificate of that. MAKERS/asked lists what was asked for.
func mockMakers() *cobra.Command {
	var today bool // what they serve is from now, not from noon
	c := &cobra.Command{Use: "makers OUT CERT", Args: cobra.ExactArgs(2), RunE: func(cmd *cobra.Command, args []string) error {
		published := noon
		if today {
			published = time.Now()
		}
		m := fetchtest.New(attestationtest.New("sessions"), published)
		behind := httptest.NewTLSServer(m) // its certificate is for example.com
		defer behind.Close()
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodConnect && r.Host == "example.com:443":
				tunnel(w, behind.Listener.Addr().String())
			case r.URL.Path == "/asked":
				fmt.Fprintln(w, strings.Join(m.Requests(), "\n"))
			default:
				m.ServeHTTP(w, r)
			}
		}))
		defer front.Close()
		cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: behind.Certificate().Raw})
		text := fmt.Sprintf("MAKERS=%s\nPROXIED=https://example.com\n", front.URL)
		if err := errors.Join(os.WriteFile(args[1], cert, 0o644), os.WriteFile(args[0]+".new", []byte(text), 0o644), os.Rename(args[0]+".new", args[0])); err != nil {
			return err
		}
		<-cmd.Context().Done()
		return nil
	}}
	c.Flags().BoolVar(&today, "today", false, "")
	return c
}

// tunnel answers CONNECT.
func tunnel(w http.ResponseWriter, to string) {
	up, err := net.Dial("tcp", to)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	down, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		up.Close()
		return
	}
	io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		defer up.Close()
		io.Copy(up, down)
	}()
	defer down.Close()
	io.Copy(down, up)
}

// mockGet prints what a URL answers.
func mockGet() *cobra.Command {
	return &cobra.Command{Use: "get URL", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		resp, err := http.Get(args[0])
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(os.Stdout, resp.Body)
		return err
	}}
}

// mockShift makes evidence of an epoch say that it is of another block of that number.
func mockShift() *cobra.Command {
	return &cobra.Command{Use: "shift FILE OUT", Args: cobra.ExactArgs(2), RunE: func(_ *cobra.Command, args []string) error {
		b, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		b[4] ^= 1
		return os.WriteFile(args[1], b, 0o644)
	}}
}

// damaged flips one bit of what the quote's signature covers.
func damaged(quote []byte) []byte {
	b := bytes.Clone(quote)
	b[0x90] ^= 1
	return b
}

func openPolicy(a *attestationtest.Authority, now time.Time) *policy.Policy {
	p := a.Policy(now)
	p.Devices.Modes, p.Devices.Switch = []string{"single-gpu"}, nil
	p.Devices.GPU.MinCount, p.Devices.GPU.MaxCount = 1, 1
	return p
}

// mockCheapen weakens a wallet file's key derivation: a second for each command adds up.
func mockCheapen() *cobra.Command {
	return &cobra.Command{Use: "cheapen WALLET PASSPHRASE", Args: cobra.ExactArgs(2), RunE: func(_ *cobra.Command, args []string) error {
		sealed, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		pass, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		phrase := strings.TrimSpace(string(pass))
		id, err := age.NewScryptIdentity(phrase)
		if err != nil {
			return err
		}
		r, err := age.Decrypt(armor.NewReader(bytes.NewReader(sealed)), id)
		if err != nil {
			return err
		}
		to, err := age.NewScryptRecipient(phrase)
		if err != nil {
			return err
		}
		to.SetWorkFactor(4)
		var out bytes.Buffer
		a := armor.NewWriter(&out)
		w, err := age.Encrypt(a, to)
		if err != nil {
			return err
		}
		if _, err := io.Copy(w, r); err != nil {
			return err
		}
		if err := errors.Join(w.Close(), a.Close()); err != nil {
			return err
		}
		return os.WriteFile(args[0], out.Bytes(), 0o600)
	}}
}

// mockProvider runs a provider: a real host and a real enclave on mock hardware, around an engine that says the alphabet. It
// is paid on the network that NETWORK describes. OUT gets URL, KEY and ADNL, POLICY a policy that pins its hardware.
func mockProvider() *cobra.Command {
	var vllm bool // behind the driver for it, instead of a script
	c := &cobra.Command{Use: "provider NETWORK OUT POLICY", Args: cobra.ExactArgs(3), RunE: func(cmd *cobra.Command, args []string) error {
		var e engine.Engine = &e2e.Script{Chunks: 40, Size: 5}
		if vllm {
			v := e2e.NewVLLM()
			defer v.Close()
			var err error
			if e, err = v.Engine(); err != nil {
				return err
			}
		}
		return provide(cmd.Context(), e, args[0], args[1], args[2])
	}}
	c.Flags().BoolVar(&vllm, "vllm", false, "")
	return c
}

func provide(ctx context.Context, e engine.Engine, network, out, policyPath string) error {
	dir, err := os.MkdirTemp("", "bombyx-provider-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	config, err := os.ReadFile(network)
	if err != nil {
		return err
	}
	chain, err := ton.Dial(ctx, config, ton.Options{Resend: time.Second})
	if err != nil {
		return err
	}
	defer chain.Close()
	w, err := wallet.New(chain.GlobalID())
	if err != nil {
		return err
	}
	payee, err := channel.AddressOf(w.Address())
	if err != nil {
		return err
	}
	resp, err := http.Post("http://"+os.Getenv("CONTROL")+"/fund", "application/json",
		strings.NewReader(fmt.Sprintf(`{"address":%q,"amount":"1"}`, w.Address())))
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("faucet: %s", resp.Status)
	}

	a := attestationtest.New("sessions")
	node, err := a.NewNode(attestationtest.NodeConfig{Name: "node", GPUs: 1})
	if err != nil {
		return err
	}
	m := &manifest.Manifest{Version: 1, Models: []manifest.Model{{ID: e2e.Model, Format: "gguf", SHA256: hex.EncodeToString(make([]byte, 32)), Size: 1, ContextLength: 4096}}}
	doc, err := m.Encode()
	if err != nil {
		return err
	}
	// 0.00001 GRAM for a token of the answer; the window is ten of them.
	prices := price.List{e2e.Model: {Prompt: 1_000_000_000, Cached: 100_000_000, Completion: 10_000_000_000, Reasoning: 10_000_000_000}}
	enc, err := enclave.New(enclave.Config{Engine: e, Collector: node, Manifest: doc, Prices: prices,
		Build: sha256.Sum256([]byte("build")), Digest: sha256.Sum256([]byte("config")), KeyLifetime: time.Hour, Patience: 5 * time.Second, Window: 2 * time.Minute, Now: time.Now})
	if err != nil {
		return err
	}
	sock := filepath.Join(dir, "enclave.sock")
	l, err := net.Listen("unix", sock)
	if err != nil {
		return err
	}
	inner := &http.Server{Handler: enc.Handler()}
	go inner.Serve(l)
	defer inner.Close()

	led, err := ledger.Open(ctx, filepath.Join(dir, "ledger.db"), time.Now)
	if err != nil {
		return err
	}
	defer led.Close()
	bundle, err := a.Collateral(attestationtest.CollateralOptions{Now: time.Now()})
	if err != nil {
		return err
	}
	if _, err := collateral.Parse(bundle); err != nil {
		return err
	}
	_, identity, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	paid := &host.TON{Client: chain, Wallet: w}
	h, err := host.New(ctx, host.Config{Identity: identity, Network: chain.GlobalID(), Payee: payee, Prices: prices, Window: 100_000, MinDeposit: 100_000_000,
		ClosingDelay: channel.MinCloseDelay * time.Second, CardLifetime: time.Hour, Collateral: func() []byte { return bundle },
		Claims:   host.Claims{Every: 200 * time.Millisecond, Threshold: 1, Age: time.Hour, Margin: time.Second},
		Enclaves: []host.Enclave{{ID: "e0", Authority: "enclave", Transport: host.EnclaveTransport(func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", sock) })}},
		Ledger:   led, Chain: paid, Epochs: host.Epochs{Lifetime: time.Minute, Newest: paid.Newest}, Now: time.Now})
	if err != nil {
		return err
	}
	defer h.Close()
	go h.Run(ctx)
	hl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	outer := &http.Server{Handler: h.Handler()}
	go outer.Serve(hl)
	defer outer.Close()

	// The same host once more, for clients that know nothing but its ADNL id.
	al, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	overADNL := host.NewServer(h)
	go overADNL.Serve(adnl.Listen(al, identity))
	defer overADNL.Close()
	tonDHT, err := adnl.ParseNetwork(config)
	if err != nil {
		return err
	}
	if err := tonDHT.Publish(ctx, identity, al.Addr().(*net.TCPAddr).AddrPort()); err != nil {
		return err
	}

	p := openPolicy(a, time.Now())
	b, err := p.Encode()
	if err != nil {
		return err
	}
	var pretty bytes.Buffer
	if err := errors.Join(json.Indent(&pretty, b, "", "  "), os.WriteFile(policyPath, pretty.Bytes(), 0o644)); err != nil {
		return err
	}
	if err := publishable(filepath.Dir(out), a, h, hl.Addr().String(), chain.GlobalID(), payee, prices); err != nil {
		return err
	}
	// Renamed into place: whoever sees the file sees all of it.
	text := fmt.Sprintf("URL=http://%s\nKEY=%x\nADNL=%s\n", hl.Addr(), h.Key(), adnl.IDOf(h.Key()))
	if err := errors.Join(os.WriteFile(out+".new", []byte(text), 0o644), os.Rename(out+".new", out)); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// publishable writes what a registry could say of the provider: reference values, and the host's entry.
func publishable(dir string, a *attestationtest.Authority, h *host.Host, addr string, network int32, payee channel.Address, prices price.List) error {
	m := a.Image("")
	values, err := (&policy.ReferenceValues{Version: 1, TDX: []policy.TDXValues{{MRTD: m.MRTD, RTMR: m.RTMR[:]}}, SNP: []policy.SNPValues{},
		Builds: []policy.Hash{sha256.Sum256([]byte("build"))}, Configs: []policy.Hash{sha256.Sum256([]byte("config"))}}).Encode()
	if err != nil {
		return err
	}
	entry, err := (&card.Entry{Version: 1, Host: hex.EncodeToString(h.Key()), ADNL: strings.TrimPrefix(adnl.IDOf(h.Key()).String(), adnl.Scheme), Endpoints: []string{"http://127.0.0.1:1", "http://" + addr},
		Network: network, Payee: payee.Raw(), Prices: prices}).Encode()
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "values.json"), values, 0o644), os.WriteFile(filepath.Join(dir, "entry.json"), entry, 0o644))
}

// mockTrusting writes a policy that lists no software itself, and names a publisher instead.
func mockTrusting() *cobra.Command {
	return &cobra.Command{Use: "trusting POLICY PUBLISHER OUT", Args: cobra.ExactArgs(3), RunE: func(_ *cobra.Command, args []string) error {
		b, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		p, err := policy.Parse(b)
		if err != nil {
			return err
		}
		publisher, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		p.Registries = make([]policy.Publisher, 1)
		if err := json.Unmarshal(publisher, &p.Registries[0]); err != nil {
			return err
		}
		p.TDX.Images, p.SNP.Images = []policy.TDImage{}, []policy.SNPImage{}
		none := policy.Allowed{Allow: []policy.Named{}}
		p.Workload = policy.Workload{Builds: none, Configs: none, Models: none}
		if b, err = p.Encode(); err != nil {
			return err
		}
		return os.WriteFile(args[2], b, 0o644)
	}}
}

// mockAsk keeps the evidence of a host's enclave, and the host's collateral.
func mockAsk() *cobra.Command {
	return &cobra.Command{Use: "ask URL EVIDENCE COLLATERAL", Args: cobra.ExactArgs(3), RunE: func(_ *cobra.Command, args []string) error {
		evidence, err := http.Post(args[0]+"/v1/enclaves/e0/evidence", "application/octet-stream", bytes.NewReader(make([]byte, 32)))
		if err != nil {
			return err
		}
		defer evidence.Body.Close()
		bundle, err := http.Get(args[0] + "/v1/collateral")
		if err != nil {
			return err
		}
		defer bundle.Body.Close()
		for i, body := range []io.Reader{evidence.Body, bundle.Body} {
			b, err := io.ReadAll(body)
			if err := errors.Join(err, os.WriteFile(args[1+i], b, 0o644)); err != nil {
				return err
			}
		}
		return nil
	}}
}

// mockTamper makes a saved account say that it is of another block.
func mockTamper() *cobra.Command {
	return &cobra.Command{Use: "tamper FILE OUT", Args: cobra.ExactArgs(2), RunE: func(_ *cobra.Command, args []string) error {
		b, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		var doc map[string]any
		if err := json.Unmarshal(b, &doc); err != nil {
			return err
		}
		doc["root_hash"] = strings.Repeat("0", 64)
		if b, err = json.Marshal(doc); err != nil {
			return err
		}
		return os.WriteFile(args[1], b, 0o644)
	}}
}
