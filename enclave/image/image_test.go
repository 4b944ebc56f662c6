package image

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bombyx-network/bombyx/attestation/eventlog"
	"github.com/bombyx-network/bombyx/attestation/measure"
)

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parts(t testing.TB) *Parts {
	p := &Parts{Init: []byte("init program"), Enclave: []byte("enclave program"), Config: read(t, "testdata/enclave.json"), Modules: map[string][]byte{}}
	for _, m := range Modules {
		p.Modules[m] = []byte(m)
	}
	return p
}

func TestInitrd(t *testing.T) {
	p := parts(t)
	b, err := Initrd(p)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Initrd(parts(t)); err != nil || !bytes.Equal(b, again) {
		t.Error("the same parts give other bytes", err)
	}
	got := unpack(t, b)
	want := map[string]string{"dev": "", "proc": "", "sys": "", "modules": "", "init": "init program", "bombyx-enclave": "enclave program", "enclave.json": string(p.Config)}
	for i, m := range Modules {
		want["modules/"+strconv.Itoa(i/10)+strconv.Itoa(i%10)+"-"+filepath.Base(m)+".ko.xz"] = m
	}
	if !maps.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	p.Model = []byte("weights")
	p.Config = bytes.Replace(p.Config, []byte(`"embedded"`), []byte(`"embedded", "file": "/model.gguf"`), 1)
	b, err = Initrd(p)
	if err != nil || unpack(t, b)["model.gguf"] != "weights" {
		t.Error("no model", err)
	}
}

// unpack reads an archive back, and checks that nothing in it tells one build from another.
func unpack(t *testing.T, b []byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	last := ""
	for {
		if len(b) < 110 || string(b[:6]) != "070701" {
			t.Fatalf("no header: %.110q", b)
		}
		var f [13]int
		for i := range f {
			n, err := strconv.ParseUint(string(b[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			f[i] = int(n)
		}
		const owner, group, mtime, size, name = 2, 3, 5, 6, 11
		at := func(n int) int { return (n + 3) &^ 3 }
		data := at(110 + f[name])
		s := string(b[110 : 110+f[name]-1])
		if f[owner] != 0 || f[group] != 0 || f[mtime] != 0 {
			t.Errorf("%s: owner %d, group %d, time %d", s, f[owner], f[group], f[mtime])
		}
		if s == "TRAILER!!!" {
			return out
		}
		if s <= last {
			t.Errorf("%q after %q", s, last)
		}
		out[s], last = string(b[data:data+f[size]]), s
		b = b[data+at(f[size]):]
	}
}

func TestInitrdRefuses(t *testing.T) {
	for want, change := range map[string]func(p *Parts, config func(old, new string)){
		"configuration: ":         func(p *Parts, _ func(_, _ string)) { p.Config = []byte("{") },
		"no other server":         func(_ *Parts, config func(_, _ string)) { config("embedded", "openai") },
		"no driver for GPUs":      func(_ *Parts, config func(_, _ string)) { config(`"patience": 30`, `"patience": 30, "gpus": 8`) },
		"by vsock:PORT alone":     func(_ *Parts, config func(_, _ string)) { config("vsock:5000", "tcp:127.0.0.1:80") },
		"a model is given: true":  func(p *Parts, _ func(_, _ string)) { p.Model = []byte("x") },
		"a model is given: false": func(_ *Parts, config func(_, _ string)) { config(`"embedded"`, `"embedded", "file": "/m"`) },
		"not a file in the root": func(p *Parts, config func(_, _ string)) {
			p.Model = []byte("x")
			config(`"embedded"`, `"embedded", "file": "a/m"`)
		},
		"the file init is there twi": func(p *Parts, config func(_, _ string)) {
			p.Model = []byte("x")
			config(`"embedded"`, `"embedded", "file": "/init"`)
		},
		"no module crypto/gcm": func(p *Parts, _ func(_, _ string)) { delete(p.Modules, "crypto/gcm") },
	} {
		p := parts(t)
		change(p, func(old, new string) { p.Config = bytes.Replace(p.Config, []byte(old), []byte(new), 1) })
		if _, err := Initrd(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// built is the directory of an image that make image built; "make image-test" says which.
func built(t *testing.T) string {
	dir := os.Getenv("BOMBYX_IMAGE")
	if dir == "" {
		t.Skip("needs an image: make image-test")
	}
	return dir
}

// Building again gives the same bytes, in another directory and with an empty cache of packages.
func TestImageRebuilds(t *testing.T) {
	dir := built(t)
	source := filepath.Join(t.TempDir(), "elsewhere")
	files, err := exec.CommandContext(t.Context(), "git", "-C", "../..", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(files), "\x00"), "\x00") {
		to := filepath.Join(source, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, read(t, filepath.Join("../..", name)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.CommandContext(t.Context(), "make", "-C", source, "image", "CONFIG=enclave/image/testdata/enclave.json", "KERNEL_DEB="+filepath.Join(dir, "kernel.deb"))
	c.Env = append(os.Environ(), "GOCACHE="+t.TempDir(), "MAKEFLAGS=")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"vmlinuz", "initrd", "cmdline", "bombyx-enclave"} {
		one, two := read(t, filepath.Join(dir, name)), read(t, filepath.Join(source, "bin/image", name))
		if !bytes.Equal(one, two) {
			t.Errorf("%s differs", name)
		}
		t.Logf("%x  %s, twice", sha256.Sum256(one), name)
	}
}

// boot runs a machine without confidential hardware until it powers off, and returns its console.
func boot(t *testing.T, more ...string) string {
	t.Helper()
	args := append([]string{"-accel", "tcg", "-machine", "q35", "-cpu", "max", "-m", "1024", "-nodefaults", "-nographic", "-serial", "stdio", "-no-reboot"}, more...)
	c := exec.CommandContext(t.Context(), qemu(t), args...)
	begin := time.Now()
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", c, err, out)
	}
	t.Logf("booted and powered off in %v", time.Since(begin).Round(time.Second))
	return string(out)
}

func qemu(t *testing.T) string {
	path := os.Getenv("QEMU")
	if path == "" {
		path = "qemu-system-x86_64"
	}
	if _, err := exec.LookPath(path); err != nil {
		t.Skipf("needs qemu-system-x86: %v", err)
	}
	return path
}

// TestImageRefuses boots the image where there is nothing to attest: it comes up as far as the enclave, which does not serve.
func TestImageRefuses(t *testing.T) {
	dir := built(t)
	out := boot(t, "-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", filepath.Join(dir, "initrd"), "-append", string(read(t, filepath.Join(dir, "cmdline"))))
	for _, want := range []string{"bombyx-enclave: error: tee: the kernel gives no report", "init: the enclave ended: exit status 1", "reboot: Power down"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "serves") {
		t.Errorf("it serves\n%s", out)
	}
}

// TestImageMeasured boots the image's kernel under OVMF with an emulated TPM, and compares what package measure says of kernel, command
// line and initrd with what firmware and kernel wrote into its log. A TD's RTMR 1 and 2 hold the same digests. QEMU names another
// program than qemu-system-x86_64, OVMF another firmware than Debian's.
func TestImageMeasured(t *testing.T) {
	dir := built(t)
	firmware := os.Getenv("OVMF")
	if firmware == "" {
		firmware = "/usr/share/ovmf/OVMF.fd"
	}
	if _, err := os.Stat(firmware); err != nil {
		t.Skipf("needs ovmf: %v", err)
	}
	swtpm, err := exec.LookPath("swtpm")
	if err != nil {
		t.Skipf("needs swtpm: %v", err)
	}
	version, err := exec.CommandContext(t.Context(), qemu(t), "--version").Output()
	m := regexp.MustCompile(`version (\d+)\.`).FindSubmatch(version)
	if err != nil || m == nil {
		t.Fatalf("%v %s", err, version)
	}
	major, _ := strconv.Atoi(string(m[1]))

	tmp := t.TempDir()
	probe := filepath.Join(tmp, "init")
	c := exec.CommandContext(t.Context(), "go", "build", "-o", probe, "./testdata/probe")
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var b strings.Builder
	if err := archive(&b, []file{{"dev", directory, nil}, {"sys", directory, nil}, {"init", program, read(t, probe)}}); err != nil {
		t.Fatal(err)
	}
	initrd := filepath.Join(tmp, "initrd")
	if err := os.WriteFile(initrd, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(tmp, "tpm")
	tpm := exec.CommandContext(t.Context(), swtpm, "socket", "--tpm2", "--tpmstate", "dir="+tmp, "--ctrl", "type=unixio,path="+socket, "--terminate")
	if err := tpm.Start(); err != nil {
		t.Fatal(err)
	}
	defer tpm.Wait()
	defer tpm.Process.Kill()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("swtpm does not start")
		}
	}
	args := []string{"-bios", firmware, "-kernel", filepath.Join(dir, "vmlinuz"), "-initrd", initrd, "-append", Cmdline,
		"-chardev", "socket,id=c,path=" + socket, "-tpmdev", "emulator,id=t,chardev=c", "-device", "tpm-crb,tpmdev=t"}
	out := boot(t, args...)
	found := regexp.MustCompile(`log ([0-9a-f]+) end`).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("no log:\n%s", out)
	}
	raw, err := hex.DecodeString(found[1])
	if err != nil {
		t.Fatal(err)
	}
	l, err := eventlog.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	computed, err := (&measure.Direct{Kernel: read(t, filepath.Join(dir, "vmlinuz")), Initrd: []byte(b.String()), Cmdline: Cmdline}).EventLog()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range computed.Events {
		if e.Name == "kernel" && major < 10 {
			t.Logf("the kernel's digest was not compared: QEMU %d changes its header, 10 or later does not", major)
			continue
		}
		if !slices.ContainsFunc(l.Events, func(x eventlog.Event) bool { return x.Type == e.Type && bytes.Equal(x.Digest, e.Digest) }) {
			t.Errorf("%s: %x is not in the log (OVMF older than 2025.02 measures another kernel)", e.Name, e.Digest)
			continue
		}
		t.Logf("%x  %s: computed, and in the log", e.Digest, e.Name)
	}
}

// TestImageKernelSigned takes the kernel's digest from the parts of the file that Debian signed: their SHA-256 stands in the signature, and
// their SHA-384 is what package measure computes.
func TestImageKernelSigned(t *testing.T) {
	kernel := read(t, filepath.Join(built(t), "vmlinuz"))
	pe := binary.LittleEndian.Uint32(kernel[0x3c:])
	checksum, entry := pe+24+64, pe+24+112+4*8
	at, size := binary.LittleEndian.Uint32(kernel[entry:]), binary.LittleEndian.Uint32(kernel[entry+4:])
	if at == 0 || int(at+size) != len(kernel) {
		t.Fatal("the kernel is not signed")
	}
	parts := slices.Concat(kernel[:checksum], kernel[checksum+4:entry], kernel[entry+8:at])
	if d := sha256.Sum256(parts); !bytes.Contains(kernel[at:], d[:]) {
		t.Errorf("%x is not in the signature", d)
	}
	l, err := (&measure.Direct{Kernel: kernel, Initrd: []byte("initrd"), Cmdline: Cmdline}).EventLog()
	if err != nil {
		t.Fatal(err)
	}
	if d := sha512.Sum384(parts); !bytes.Equal(l.Events[0].Digest, d[:]) {
		t.Errorf("%x, computed %x", d, l.Events[0].Digest)
	}
}
