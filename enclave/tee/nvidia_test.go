//go:build linux && cgo

package tee

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/attestationtest"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/attestation/policy"
)

// libraries builds testdata/driver.c once: a driver, and one of years ago.
var libraries = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "driver"); err != nil {
		return "", err
	}
	for name, flag := range map[string]string{"driver.so": "-DNEW", "old.so": "-DOLD"} {
		out, err := exec.Command("gcc", "-Wall", "-Wextra", "-Werror", "-Wno-cast-function-type", flag, "-shared", "-fPIC", "-o", filepath.Join(dir, name), "testdata/driver.c").CombinedOutput()
		if err != nil {
			return dir, errors.Join(err, errors.New(string(out)))
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := libraries(); dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

var (
	auth = attestationtest.New("tee")
	now  = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

// A driver answers what driver.c asks, for the devices of a node.
type driver struct {
	node     *attestationtest.Node
	gpus     int // that it shows
	switches int

	feature, devtools, multi uint32
	ready                    uint32
	mode                     byte           // of the switches
	fail                     map[string]int // code of a question, by its name and the device
	wrong                    string         // question answered for another nonce
	large                    string         // question answered with an impossible length
	calls                    []string
	nonce                    [32]byte
	devices                  []attestation.Device // their Evidence for nonce
	mu                       sync.Mutex
}

// start serves a node whose driver is as it should be.
func start(t *testing.T, c attestationtest.NodeConfig, change func(*driver)) (*driver, string) {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("the driver of these tests is compiled with gcc, which is not installed")
	}
	dir, err := libraries()
	if err != nil {
		t.Fatal(err)
	}
	node, err := auth.NewNode(c)
	if err != nil {
		t.Fatal(err)
	}
	d := &driver{node: node, gpus: c.GPUs, switches: c.Switches, feature: nvml.CC_SYSTEM_FEATURE_ENABLED, mode: 3, fail: map[string]int{}}
	if c.Switches > 0 {
		d.feature, d.multi = nvml.CC_SYSTEM_FEATURE_DISABLED, nvml.CC_SYSTEM_MULTIGPU_PROTECTED_PCIE
	}
	if change != nil {
		change(d)
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	t.Setenv("BOMBYX_TEST_DRIVER", l.Addr().String())
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go d.serve(conn)
		}
	}()
	return d, dir
}

func (d *driver) serve(conn net.Conn) {
	defer conn.Close()
	var q struct {
		What   [96]byte
		Device uint32
		Nonce  [32]byte
	}
	if binary.Read(conn, binary.LittleEndian, &q) != nil {
		return
	}
	what := string(bytes.TrimRight(q.What[:], "\x00"))
	code, answer := d.answer(what, int(q.Device), q.Nonce)
	head := binary.LittleEndian.AppendUint32(nil, uint32(code))
	conn.Write(append(binary.LittleEndian.AppendUint32(head, uint32(len(answer))), answer...))
	io.Copy(io.Discard, conn)
}

func words(n ...uint32) (b []byte) {
	for _, x := range n {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return b
}

// padded is b and zeros, n bytes together.
func padded(n int, b []byte) []byte { return append(bytes.Clone(b), make([]byte, n-len(b))...) }

func (d *driver) answer(what string, device int, nonce [32]byte) (int, []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, what)
	if code := d.fail[what]; code != 0 && (device == 0 || what != "report") {
		return code, nil
	}
	if what == d.wrong {
		nonce[0] ^= 1
	}
	evidence := func(i int) attestation.Device {
		if d.devices == nil || nonce != d.nonce {
			d.devices, d.nonce = d.node.Devices(nonce), nonce
		}
		return d.devices[i%len(d.devices)]
	}
	size := func(b []byte) uint32 {
		if what == d.large {
			return 1 << 20
		}
		return uint32(len(b))
	}
	switch what {
	case "count":
		return 0, words(uint32(d.gpus))
	case "state":
		return 0, words(nvml.CC_SYSTEM_ENVIRONMENT_PROD, d.feature, d.devtools)
	case "settings":
		return 0, words(nvml.CC_SYSTEM_ENVIRONMENT_PROD, d.feature, d.devtools, d.multi)
	case "ready":
		return 0, words(d.ready)
	case "set ready":
		d.ready = uint32(device)
	case "certificate":
		nonce = d.nonce // it does not depend on one
		c := evidence(device).Certificates
		return 0, append(words(0, size(c)), padded(4096+5120, append(make([]byte, 4096), c...))...)
	case "report":
		r := evidence(device).Report
		return 0, append(append(words(0, size(r), 0), nonce[:]...), padded(8192+4096, r)...)
	case "uuid":
		var b []byte
		for i := range d.switches {
			b = append(b, padded(16, []byte{byte(i)})...)
		}
		return 0, b
	case "pcie_mode":
		return 0, []byte{d.mode}
	case "switch certificate":
		nonce = d.nonce
		c := evidence(d.gpus + device).Certificates
		return 0, append(padded(0x1400, c), words(size(c))...)
	case "switch report":
		r := evidence(d.gpus + device).Report
		return 0, append(words(size(r)), padded(0x2000, r)...)
	}
	return 0, nil
}

func (d *driver) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *driver) released() uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ready
}

// collector opens the machine that a driver shows.
func (d *driver) collector(want Devices, dir string) (*Collector, error) {
	return open(&kernel{provider: providerTDX, quote: d.node.Quote}, want, filepath.Join(dir, "driver.so"), filepath.Join(dir, "driver.so"))
}

// appraise is what a client does with the Evidence.
func appraise(t *testing.T, doc []byte, nonce [32]byte, change func(*policy.Policy)) *attestation.Result {
	t.Helper()
	p := auth.Policy(now)
	if change != nil {
		change(p)
	}
	encoded, err := auth.Collateral(attestationtest.CollateralOptions{Now: now, Drivers: []string{"570.01"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := collateral.Parse(encoded)
	if err != nil {
		t.Fatal(err)
	}
	v, err := attestation.NewVerifier(p, b)
	if err != nil {
		t.Fatal(err)
	}
	return v.Appraise(now, doc, nonce)
}

func keys(t *testing.T) []byte {
	t.Helper()
	k := keyset.Keyset{KeyConfigs: []byte("keys"), ReceiptKey: make(ed25519.PublicKey, 32), NotAfter: now.Add(time.Hour)}
	b, err := k.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// From the driver's libraries to the verdict of a strict policy.
func TestCollectDevices(t *testing.T) {
	for _, c := range []struct {
		want Devices
		mode attestation.Mode
	}{
		{Devices{GPUs: 1}, attestation.ModeSingleGPU},
		{Devices{GPUs: 8, Switches: 4}, attestation.ModeMultiGPU},
	} {
		d, dir := start(t, attestationtest.NodeConfig{Name: "n", GPUs: c.want.GPUs, Switches: c.want.Switches}, nil)
		tee, err := d.collector(c.want, dir)
		if err != nil {
			t.Fatal(err)
		}
		if d.released() != nvml.CC_ACCEPTING_CLIENT_REQUESTS_TRUE {
			t.Error("the GPUs were not released")
		}
		nonce := [32]byte{7}
		doc, err := tee.Collect(t.Context(), nonce, keys(t))
		if err != nil {
			t.Fatal(err)
		}
		e, err := attestation.ParseEvidence(doc)
		if err != nil {
			t.Fatal(err)
		}
		if e.Mode != c.mode || len(e.Devices) != c.want.GPUs+c.want.Switches {
			t.Errorf("mode %s with %d devices", e.Mode, len(e.Devices))
		}
		if err := appraise(t, doc, nonce, nil).Err(); err != nil {
			t.Errorf("%s: %v", c.mode, err)
		}
		if appraise(t, doc, [32]byte{8}, nil).Err() == nil {
			t.Error("accepted for another nonce")
		}
	}
}

// The GPUs accept work only after they have shown Evidence.
func TestReleaseComesAfterEvidence(t *testing.T) {
	d, dir := start(t, attestationtest.NodeConfig{Name: "n", GPUs: 1}, nil)
	if _, err := d.collector(Devices{GPUs: 1}, dir); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	calls := strings.Join(d.calls, ", ")
	if report, set := strings.Index(calls, "report"), strings.Index(calls, "set ready"); report < 0 || set < report {
		t.Errorf("calls: %s", calls)
	}
}

// What the client's policy refuses, the node may show.
func TestDriverBelowFloor(t *testing.T) {
	d, dir := start(t, attestationtest.NodeConfig{Name: "n", GPUs: 1, Driver: "570.01"}, nil)
	tee, err := d.collector(Devices{GPUs: 1}, dir)
	if err != nil {
		t.Fatal(err)
	}
	nonce := [32]byte{7}
	doc, err := tee.Collect(t.Context(), nonce, keys(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := appraise(t, doc, nonce, nil).Err(); err == nil || !strings.Contains(err.Error(), "driver") {
		t.Errorf("verdict: %v", err)
	}
	if err := appraise(t, doc, nonce, func(p *policy.Policy) { p.Devices.GPU.Driver = "570.01" }).Err(); err != nil {
		t.Errorf("with a lower floor: %v", err)
	}
}

func TestOpenRefusesDevices(t *testing.T) {
	one, many := Devices{GPUs: 1}, Devices{GPUs: 8, Switches: 4}
	for _, c := range []struct {
		name   string
		want   Devices
		change func(*driver)
		err    string
	}{
		{"CC off", one, func(d *driver) { d.feature = 0 }, "confidential computing is off"},
		{"DevTools", one, func(d *driver) { d.devtools = 1 }, "DevTools"},
		{"more GPUs", one, func(d *driver) { d.gpus = 2 }, "shows 2 GPUs"},
		{"fewer GPUs", many, func(d *driver) { d.gpus = 7 }, "shows 7 GPUs"},
		{"no GPU", one, func(d *driver) { d.gpus = 0 }, "shows 0 GPUs"},
		{"single in a mode for several", one, func(d *driver) { d.multi = nvml.CC_SYSTEM_MULTIGPU_NVLE }, "mode for several"},
		{"several in the mode for one", Devices{GPUs: 2}, func(d *driver) { d.gpus = 2 }, "mode for one"},
		{"switches without protected PCIe", many, func(d *driver) { d.feature, d.multi = 1, 0 }, "not in protected-PCIe"},
		{"protected PCIe without switches", Devices{GPUs: 8}, func(d *driver) { d.multi, d.gpus = 1, 8 }, "no switches"},
		{"GPU is lost", one, func(d *driver) { d.fail["report"] = 15 }, "GPU 0: tee: making the report: GPU is lost"},
		{"no certificate", one, func(d *driver) { d.fail["certificate"] = 3 }, "reading the certificate chain"},
		{"no handle", one, func(d *driver) { d.fail["handle"] = 15 }, "opening"},
		{"no state", one, func(d *driver) { d.fail["state"] = 3 }, "confidential-computing state"},
		{"no settings", one, func(d *driver) { d.fail["settings"] = 3 }, "confidential-computing settings"},
		{"no count", one, func(d *driver) { d.fail["count"] = 3 }, "counting GPUs"},
		{"init", one, func(d *driver) { d.fail["init"] = 9 }, "loading"},
		{"not root", one, func(d *driver) { d.fail["set ready"] = int(nvml.ERROR_NO_PERMISSION) }, "root"},
		{"does not become ready", one, func(d *driver) { d.fail["ready"] = 3 }, "ready state"},
		{"another nonce", one, func(d *driver) { d.wrong = "report" }, "another nonce"},
		{"report too long", one, func(d *driver) { d.large = "report" }, "do not fit"},
		{"chain too long", one, func(d *driver) { d.large = "certificate" }, "do not fit"},
		{"fewer switches", many, func(d *driver) { d.switches = 3 }, "shows 3 NVSwitches"},
		{"more switches", many, func(d *driver) { d.switches = 40 }, "shows 40 NVSwitches"},
		{"switch not locked", many, func(d *driver) { d.mode = 1 }, "locked"},
		{"switch mode unknown", many, func(d *driver) { d.mode = 0xff }, "locked"},
		{"switch answers another nonce", many, func(d *driver) { d.wrong = "switch report" }, "another nonce"},
		{"switch report too long", many, func(d *driver) { d.large = "switch report" }, "do not fit"},
		{"switch chain too long", many, func(d *driver) { d.large = "switch certificate" }, "do not fit"},
		{"switch errs", many, func(d *driver) { d.fail["switch report"] = -7 }, "NVSwitch 0: making the report failed with code -7"},
		{"switch does not answer", many, func(d *driver) { d.fail["switch report"] = 1 }, "making the report"},
		{"switch without certificate", many, func(d *driver) { d.fail["switch certificate"] = -1 }, "certificate chain"},
		{"no switch list", many, func(d *driver) { d.fail["uuid"] = -6 }, "listing NVSwitches"},
		{"no session", many, func(d *driver) { d.fail["session"] = -3 }, "NSCQ session"},
		{"nonsense", Devices{GPUs: 0, Switches: 4}, nil, "want 1 or more GPUs"},
		{"too many", Devices{GPUs: 30, Switches: 4}, nil, "at most"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, dir := start(t, attestationtest.NodeConfig{Name: "n", GPUs: min(c.want.GPUs, 8), Switches: c.want.Switches}, c.change)
			_, err := d.collector(c.want, dir)
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Fatalf("got %v, want %q", err, c.err)
			}
			if d.released() != 0 && c.name != "does not become ready" {
				t.Error("the GPUs were released all the same")
			}
		})
	}
}

// Between two requests anything may happen to a machine.
func TestCollectRefusesChangedDevices(t *testing.T) {
	want := Devices{GPUs: 8, Switches: 4}
	d, dir := start(t, attestationtest.NodeConfig{Name: "n", GPUs: 8, Switches: 4}, nil)
	tee, err := d.collector(want, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name          string
		break_, mend  func()
		err           string
		stillReleased uint32
	}{
		{"reset", func() { d.ready = 0 }, func() { d.ready = 1 }, "do not accept work", 0},
		{"GPU gone", func() { d.gpus = 7 }, func() { d.gpus = 8 }, "shows 7 GPUs", 1},
		{"switch gone", func() { d.switches = 3 }, func() { d.switches = 4 }, "shows 3 NVSwitches", 1},
		{"mode changed", func() { d.multi = 0 }, func() { d.multi = 1 }, "confidential computing is off", 1},
		{"switch unlocked", func() { d.mode = 1 }, func() { d.mode = 3 }, "locked", 1},
	} {
		d.set(c.break_)
		if _, err := tee.Collect(t.Context(), [32]byte{1}, keys(t)); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.err)
		}
		if got := d.released(); got != c.stillReleased {
			t.Errorf("%s: collecting changed the ready state to %d", c.name, got)
		}
		d.set(c.mend)
		if _, err := tee.Collect(t.Context(), [32]byte{1}, keys(t)); err != nil {
			t.Errorf("after %s: %v", c.name, err)
		}
	}
}

func TestMissingLibraries(t *testing.T) {
	d, dir := start(t, attestationtest.NodeConfig{Name: "n", GPUs: 8, Switches: 4}, nil)
	good, gone := filepath.Join(dir, "driver.so"), filepath.Join(dir, "gone.so")
	k := &kernel{provider: providerTDX, quote: d.node.Quote}
	for _, c := range []struct{ nvml, nscq, err string }{
		{gone, good, "libnvidia-ml.so.1"},
		{good, gone, "libnvidia-nscq.so.2"},
		{filepath.Join(dir, "old.so"), good, "too old: its NVML lacks nvmlSystemGetConfComputeSettings"},
	} {
		if _, err := open(k, Devices{GPUs: 8, Switches: 4}, c.nvml, c.nscq); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("got %v, want %q", err, c.err)
		}
	}
	if d.released() != 0 {
		t.Error("the GPUs were released")
	}
}

// A driver that hangs must not hang the caller, nor gather callers.
func TestCollectEndsWithItsContext(t *testing.T) {
	d, dir := start(t, attestationtest.NodeConfig{Name: "n", GPUs: 1}, nil)
	tee, err := d.collector(Devices{GPUs: 1}, dir)
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock() // the driver answers nothing
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	for range 2 {
		go func() {
			_, err := tee.Collect(ctx, [32]byte{1}, keys(t))
			done <- err
		}()
	}
	cancel()
	for range 2 {
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	d.mu.Unlock()
	if _, err := tee.Collect(t.Context(), [32]byte{1}, keys(t)); err != nil {
		t.Errorf("after the driver came back: %v", err)
	}
}
