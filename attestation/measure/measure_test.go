package measure

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/gce-tcb-verifier/tdx"

	"github.com/bombyx-network/bombyx/attestation/eventlog"
)

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func amdSevFirmware(t testing.TB) []byte  { return read(t, "testdata/ovmf_AmdSev_suffix.bin") }
func ovmfX64Firmware(t testing.TB) []byte { return read(t, "testdata/ovmf_OvmfX64_suffix.bin") }
func parse(t testing.TB, b []byte) *Firmware {
	t.Helper()
	f, err := ParseFirmware(b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// fullFirmware is an image of 4 MiB with the real tables of a fixture and other bytes for the rest.
func fullFirmware(t testing.TB) []byte {
	b := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{1}).Read(b)
	copy(b[len(b)-page:], amdSevFirmware(t))
	return b
}

// TestLaunchDigest holds the digests that sev-snp-measure publishes for these images under QEMU; kernel and initrd are empty.
func TestLaunchDigest(t *testing.T) {
	x64, amd := parse(t, ovmfX64Firmware(t)), parse(t, amdSevFirmware(t))
	empty := func(cmdline string) *Direct { return &Direct{Cmdline: cmdline} }
	for _, x := range []struct {
		f        *Firmware
		boot     *Direct
		vcpus    int
		features uint64
		want     string
	}{
		{amd, empty("console=ttyS0 loglevel=7"), 1, 0x21, "803f691094946e42068aaa3a8f9e26a5c89f36f7b73ecfb28c653360fe4b3aba7e534442e7e1e17895dfe778d0228977"},
		{amd, empty("console=ttyS0 loglevel=7"), 1, 0x1, "6d287813eb5222d770f75005c664e34c204f385ce832cc2ce7d0d6f354454362f390ef83a92046c042e706363b4b08fa"},
		{amd, empty(""), 1, 0x21, "329c8ce0972ae52343b64d34a434a86f245dfd74f5ed7aae15d22efc78fb9683632b9b50e4e1d7fa41179ef98a7ef198"},
		{amd, empty(""), 1, 0x1, "ddc5224521617a536ee7ce9dd6224d1b58a8d4fda1c741f3ac99fc4bfa04ba6e9fc98646d4a07a9079397fa3852819b5"},
		{amd, empty(""), 4, 0x21, "4953b1fb416fa874980e8442b3706d345926d5f38879134e00813c5d7abcbe78eafe7b422907be0b4698e2414a631942"},
		{amd, empty(""), 4, 0x1, "5061fffb019493a903613d56d54b94912a1a2f9e4502385f5c194616753720a92441310ba6c4933de877c36e23046ad5"},
		{amd, nil, 1, 0x21, "e1e1ca029dd7973ab9513295be68198472dcd4fc834bd9af9b63f6e8a1674dbf281a9278a4a2ebe0eed9f22adbcd0e2b"},
		{amd, nil, 1, 0x1, "19358ba9a7615534a9a1e2f0dfc29384dcd4dcb7062ff9c6013b26869a5fc6ecabe033c48dd6f6db5d6d76e7c5df632d"},
		{x64, nil, 1, 0x21, "28797ae0afaba4005a81e629acebfb59e6687949d6be44007cd5506823b0dd66f146aaae26ff291eed7b493d8a64c385"},
		{x64, nil, 1, 0x1, "da0296de8193586a5512078dcd719eccecbd87e2b825ad4148c44f665dc87df21e5b49e21523a9ad993afdb6a30b4005"},
	} {
		signature, err := CPUSignature("EPYC-v4")
		if err != nil {
			t.Fatal(err)
		}
		got, err := x.f.LaunchDigest(SNP{VCPUs: x.vcpus, CPUSignature: signature, GuestFeatures: x.features, Boot: x.boot})
		if err != nil || hex.EncodeToString(got[:]) != x.want {
			t.Errorf("%d vCPUs, features %#x, boot %+v: %x, %v, want %s", x.vcpus, x.features, x.boot, got, err, x.want)
		}
	}
}

// The hashes are of the files as they are, and everything is in the digest.
func TestLaunchDigestCoversAll(t *testing.T) {
	base := SNP{VCPUs: 2, CPUSignature: 0xa10f11, GuestFeatures: 1, Boot: &Direct{Kernel: []byte("kernel"), Initrd: []byte("initrd"), Cmdline: "quiet"}}
	seen := map[[48]byte]string{}
	try := func(name string, image []byte, change func(*SNP)) {
		g := base
		boot := *base.Boot
		g.Boot = &boot
		change(&g)
		d, err := parse(t, image).LaunchDigest(g)
		if err != nil {
			t.Fatal(name, err)
		}
		if other, ok := seen[d]; ok {
			t.Errorf("%s and %s measure the same", name, other)
		}
		seen[d] = name
	}
	image := amdSevFirmware(t)
	try("base", image, func(*SNP) {})
	try("vcpus", image, func(g *SNP) { g.VCPUs++ })
	try("signature", image, func(g *SNP) { g.CPUSignature++ })
	try("features", image, func(g *SNP) { g.GuestFeatures |= 4 })
	try("kernel", image, func(g *SNP) { g.Boot.Kernel = []byte("kernem") })
	try("initrd", image, func(g *SNP) { g.Boot.Initrd = []byte("initre") })
	try("no initrd", image, func(g *SNP) { g.Boot.Initrd = nil })
	try("command line", image, func(g *SNP) { g.Boot.Cmdline = "quieu" })
	try("no kernel", image, func(g *SNP) { g.Boot = nil })
	try("firmware", slices.Concat(make([]byte, page), image), func(*SNP) {})
}

// TestMRTD compares with gce-tcb-verifier, on an image with a fixture's tables and on Debian's firmware where it is installed.
func TestMRTD(t *testing.T) {
	images := [][]byte{fullFirmware(t)}
	if b, err := os.ReadFile("/usr/share/ovmf/OVMF.fd"); err == nil {
		images = append(images, b)
	}
	for _, image := range images {
		got, err := parse(t, image).MRTD()
		want, err2 := tdx.MRTD(tdx.LaunchOptionsDefault(""), image)
		if err != nil || err2 != nil || got != want {
			t.Errorf("%x, %v; gce-tcb-verifier: %x, %v", got, err, want, err2)
		}
	}
	// Every measured byte counts, and no other: sections 0 (code) and 1 (variables) of this image.
	base, _ := parse(t, images[0]).MRTD()
	for _, x := range []struct {
		at    int
		count bool
	}{{0x84000, true}, {4<<20 - page - 1, true}, {0, false}, {0x84000 - 1, false}} {
		image := slices.Clone(images[0])
		image[x.at] ^= 1
		if got, err := parse(t, image).MRTD(); err != nil || (got != base) != x.count {
			t.Errorf("byte %#x: %x, %v", x.at, got, err)
		}
	}
}

// vectorsDir holds real evidence captured by public projects. It is not part of the repository.
const vectorsDir = "../../../shared/vectors"

// TestRealTDs compares the events that are computed with those of real TDs, whose logs lead to the registers in their quotes
// (package eventlog's own tests): all that does not depend on the files that they booted.
func TestRealTDs(t *testing.T) {
	for _, name := range []string{"attestation-rs/tdx_ccel_live.bin", "attestation-rs/tdx_ccel_live2.dat"} {
		b, err := os.ReadFile(filepath.Join(vectorsDir, name))
		if err != nil {
			t.Skipf("real evidence is not here: %v", err)
		}
		real, err := eventlog.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		got := computed(t, testBoot())
		want := slices.DeleteFunc(slices.Clone(real.Events), func(e eventlog.Event) bool { return e.Register == 0 || e.Binding == eventlog.NotMeasured })
		if len(got) != len(want) {
			t.Fatalf("%s: %d events, want %d", name, len(got), len(want))
		}
		for i, e := range got {
			w := want[i]
			ofFiles := w.Type == eventlog.EventEFIBootServicesApplication || w.Type == eventlog.EventTag
			if e.Register != w.Register || e.Type != w.Type || !ofFiles && !bytes.Equal(e.Digest, w.Digest) {
				t.Errorf("%s, event %d: %d %v %x, want %d %v %x", name, i, e.Register, e.Type, e.Digest, w.Register, w.Type, w.Digest)
			}
		}
	}
}

// TestEmulatedBoot compares with what firmware and kernel wrote when they were booted under emulation, into a TPM: PCR 4 and 5 are
// RTMR 1 of a TD, PCR 9 is RTMR 2 (UEFI 2.10, 38.4.1). The digests of kernel and initrd are those of files that are not here:
// "make image-test" compares them.
func TestEmulatedBoot(t *testing.T) {
	l, err := eventlog.Parse(read(t, "testdata/ovmf-2025.02-qemu-10.0.2.log"))
	if err != nil {
		t.Fatal(err)
	}
	boot := testBoot()
	boot.Cmdline = "console=ttyS0 quiet"
	got := map[string][]byte{}
	for _, e := range computed(t, boot) {
		got[fmt.Sprint(e.Register, e.Type, len(got))] = e.Digest
	}
	registers := map[int]int{4: 1, 5: 1, 9: 2}
	n := 0
	for _, e := range l.Events {
		r, ok := registers[e.Register]
		if !ok || e.Register == 5 && e.Type == eventlog.EventSeparator { // a TD has one separator for PCR 4 and 5
			continue
		}
		d, ok := got[fmt.Sprint(r, e.Type, n)]
		ofFiles := e.Type == eventlog.EventEFIBootServicesApplication || bytes.Contains(e.Data, []byte("Linux initrd"))
		if !ok || !ofFiles && !bytes.Equal(d, e.Digest) {
			t.Errorf("event %d: PCR %d, %v: %x, computed %x", n, e.Register, e.Type, e.Digest, d)
		}
		n++
	}
	if n != len(got) {
		t.Errorf("%d events, computed %d", n, len(got))
	}
}

func computed(t testing.TB, b *Direct) []eventlog.Event {
	t.Helper()
	l, err := b.EventLog()
	if err != nil {
		t.Fatal(err)
	}
	return l.Events
}

// The digests of what is booted are of these bytes, and lead to these registers.
func TestEventLog(t *testing.T) {
	b := testBoot()
	events := computed(t, b)
	want := map[string][]byte{"initrd": b.Initrd, "command line": []byte("q\x00u\x00i\x00e\x00t\x00 \x00i\x00n\x00i\x00t\x00r\x00d\x00=\x00i\x00n\x00i\x00t\x00r\x00d\x00\x00\x00")}
	for _, e := range events {
		if w, ok := want[e.Name]; ok {
			if sum := sha512.Sum384(w); !bytes.Equal(e.Digest, sum[:]) {
				t.Errorf("%s: %x, want %x", e.Name, e.Digest, sum)
			}
			delete(want, e.Name)
		}
	}
	if len(want) > 0 {
		t.Errorf("not measured: %q", want)
	}
	l, _ := b.EventLog()
	registers, err := eventlog.Replay(l)
	if err != nil || len(registers) != 2 || len(registers[1]) != 48 || len(registers[2]) != 48 {
		t.Errorf("%x, %v", registers, err)
	}
	for _, x := range []struct {
		b    *Direct
		want string
	}{
		{&Direct{Kernel: b.Kernel, Cmdline: "quiet"}, "with an initrd and a command line only"},
		{&Direct{Kernel: b.Kernel, Initrd: b.Initrd}, "with an initrd and a command line only"},
		{&Direct{Initrd: b.Initrd, Cmdline: "quiet"}, "kernel: no PE image"},
		{&Direct{Kernel: b.Kernel, Initrd: b.Initrd, Cmdline: "a\nb"}, "has a byte 0x0a"},
		{&Direct{Kernel: b.Kernel, Initrd: b.Initrd, Cmdline: "caf\u00e9"}, "has a byte 0xc3"},
		{&Direct{Kernel: b.Kernel, Initrd: b.Initrd, Cmdline: strings.Repeat("x", MaxCmdline+1)}, "Linux takes 2047"},
		{&Direct{Kernel: make([]byte, MaxKernel+1), Initrd: b.Initrd, Cmdline: "quiet"}, "limit 268435456"},
	} {
		if _, err := x.b.EventLog(); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%q: %v", x.want, err)
		}
	}
}

func testBoot() *Direct {
	return &Direct{Kernel: pe(0x400, 0x200, nil), Initrd: []byte("initrd"), Cmdline: "quiet"}
}

// pe is a PE32+ image with two sections of these sizes, in the table in the wrong order, and a signature.
func pe(first, second uint32, signature []byte) []byte {
	const headers, at = 0x200, 0x40
	b := make([]byte, headers+first+second)
	for i := headers; i < len(b); i++ {
		b[i] = byte(i * 7)
	}
	put16, put32 := binary.LittleEndian.PutUint16, binary.LittleEndian.PutUint32
	copy(b, "MZ")
	put32(b[0x3c:], at)
	copy(b[at:], "PE\x00\x00")
	put16(b[at+6:], 2)        // sections
	put16(b[at+20:], 112+5*8) // optional header
	optional := b[at+24:]
	put16(optional, 0x20b)
	put32(optional[60:], headers)
	put32(optional[64:], 0x12345678) // checksum
	put32(optional[108:], 5)
	table := optional[112+5*8:]
	put32(table[16:], second)
	put32(table[20:], headers+first)
	put32(table[40+16:], first)
	put32(table[40+20:], headers)
	if signature != nil {
		put32(optional[112+4*8:], uint32(len(b)))
		put32(optional[112+4*8+4:], uint32(len(signature)))
		b = append(b, signature...)
	}
	return b
}

func TestAuthenticode(t *testing.T) {
	image := pe(0x400, 0x200, nil)
	got, err := authenticode(image, crypto.SHA256)
	const checksum, directory = 0x40 + 24 + 64, 0x40 + 24 + 112 + 4*8
	want := sha256.Sum256(slices.Concat(image[:checksum], image[checksum+4:directory], image[directory+8:]))
	if err != nil || !bytes.Equal(got, want[:]) {
		t.Fatalf("%x, %v, want %x", got, err, want)
	}
	// A signature, and the checksum that follows from it, change nothing; anything else does.
	signed := pe(0x400, 0x200, make([]byte, 24))
	signed[checksum]++
	if again, err := authenticode(signed, crypto.SHA256); err != nil || !bytes.Equal(again, got) {
		t.Errorf("signed: %x, %v", again, err)
	}
	for _, at := range []int{0x10, checksum - 1, checksum + 4, directory - 1, 0x1ff, 0x200, len(image) - 1} {
		changed := slices.Clone(image)
		changed[at] ^= 1
		if d, err := authenticode(changed, crypto.SHA256); err == nil && bytes.Equal(d, got) {
			t.Errorf("byte %#x does not count", at)
		}
	}
	for _, x := range []struct {
		name  string
		image []byte
		want  string
	}{
		{"empty", nil, "no PE image"},
		{"text", bytes.Repeat([]byte("x"), 4096), "no PE image"},
		{"offset beyond", change(image, 0x3c, 0xff, 0xff, 0xff, 0xff), "no PE image"},
		{"another signature", change(image, 0x40, 'N', 'E'), "no PE image"},
		{"PE32", change(image, 0x40+24, 0x0b, 0x01), "no PE32+ image"},
		{"four directories", change(image, 0x40+24+108, 4), "no PE32+ image"},
		{"short optional header", change(image, 0x40+20, 112), "no PE32+ image"},
		{"many sections", change(image, 0x40+6, 0xff, 0xff), "truncated in the section table"},
		{"headers too short", change(image, 0x40+24+60, 0x10, 0), "headers of 16 bytes"},
		{"headers too long", change(image, 0x40+24+60, 0, 0xff), "headers of"},
		{"a gap", change(image, 0x40+24+60, 0xf0, 1), "depend on who computes it"},
		{"section beyond", pe(0x400, 0x200, nil)[:0x7f8], "depend on who computes it"},
		{"odd end", append(slices.Clone(image), 1, 2, 3), "multiple of 8"},
		{"after the signature", append(slices.Clone(signed), 1), "not the end"},
		{"signature of no bytes", change(signed, directory+4, 0), "not the end"},
	} {
		if d, err := authenticode(x.image, crypto.SHA256); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %x, %v, want %q", x.name, d, err, x.want)
		}
	}
}

func change(b []byte, at int, to ...byte) []byte {
	b = slices.Clone(b)
	copy(b[at:], to)
	return b
}

func TestCPUSignature(t *testing.T) {
	for model, want := range map[string]uint32{"EPYC": 0x800f12, "EPYC-v4": 0x800f12, "EPYC-Rome": 0x830f10, "EPYC-Milan-v2": 0xa00f11,
		"EPYC-Genoa": 0xa10f10, "EPYC-Turin": 0xb00f00, "0x00a10f11": 0xa10f11} {
		if got, err := CPUSignature(model); err != nil || got != want {
			t.Errorf("%s: %#x, %v, want %#x", model, got, err, want)
		}
	}
	for _, model := range []string{"", "host", "epyc", "EPYC-v0", "EPYC-Genoa-v1-v1", "0", "0x1ffffffff", "-1"} {
		if got, err := CPUSignature(model); err == nil {
			t.Errorf("%q: %#x", model, got)
		}
	}
	for _, model := range CPUs() {
		if _, err := CPUSignature(model); err != nil {
			t.Error(err)
		}
	}
}

// TestFirmwareNegatives changes real tables, byte by byte where it matters.
func TestFirmwareNegatives(t *testing.T) {
	amd := amdSevFirmware(t)
	full := fullFirmware(t)
	find := func(image []byte, what string) int {
		i := bytes.Index(image, []byte(what))
		if i < 0 {
			t.Fatalf("no %q", what)
		}
		return i
	}
	entry := func(image []byte, g guid) int { return find(image, string(g[:])) } // its GUID; the length lies before, the data before that
	sev, td := find(amd, "ASEV"), find(full, "TDVF")
	boot := &Direct{Kernel: []byte("kernel")}
	good := SNP{VCPUs: 1, CPUSignature: 1, GuestFeatures: 1, Boot: boot}
	for _, x := range []struct {
		name  string
		image []byte
		snp   SNP
		want  string
	}{
		{"empty", nil, good, "0 bytes, want whole pages"},
		{"odd size", amd[1:], good, "want whole pages"},
		{"too large", make([]byte, MaxFirmware+page), good, "16777216 bytes at most"},
		{"no table", make([]byte, page), good, "no OVMF table at its end"},
		{"table too long", change(amd, entry(amd, tableFooter)-2, 0xff, 0xff), good, "table of 65535 bytes"},
		{"table too short", change(amd, entry(amd, tableFooter)-2, 17, 0), good, "table of 17 bytes"},
		{"table cut off", change(amd, entry(amd, tableFooter)-2, 19, 0), good, "table entry cut off"},
		{"entry too long", change(amd, entry(amd, sevMetadata)-2, 0xff, 0x0f), good, "table entry of 4095 bytes"},
		{"entry of nothing", change(amd, entry(amd, sevMetadata)-2, 0, 0), good, "table entry of 0 bytes"},
		{"entry twice", change(amd, entry(amd, sevMetadata), tdxMetadata[:]...), good, "is there twice"},
		{"no vCPUs", amd, SNP{CPUSignature: 1, GuestFeatures: 1}, "want 1 to 4096"},
		{"many vCPUs", amd, SNP{VCPUs: 4097, CPUSignature: 1, GuestFeatures: 1}, "want 1 to 4096"},
		{"no SNPActive", amd, SNP{VCPUs: 1, CPUSignature: 1, GuestFeatures: 0x20}, "SNPActive"},
		{"no metadata", change(amd, entry(amd, sevMetadata), 1), good, "no SEV-SNP metadata"},
		{"no reset block", change(amd, entry(amd, sevResetBlock), 1), good, "reset block"},
		{"no hash table", change(amd, entry(amd, sevHashTable), 1), good, "does not check what it boots"},
		{"no section for hashes", ovmfX64Firmware(t), good, "does not check what it boots"},
		{"hash table elsewhere", change(amd, entry(amd, sevHashTable)-10, 0xff, 0x0f), good, "outside of its section"},
		{"metadata before the image", change(amd, entry(amd, sevMetadata)-6, 0xff, 0xff), good, "before the end"},
		{"magic", change(amd, sev, 'X'), good, "this program knows ASEV"},
		{"version", change(amd, sev+8, 2), good, "this program knows ASEV"},
		{"length", change(amd, sev+4, 1), good, "sections in"},
		{"no sections", change(amd, sev+4, 16, 0, 0, 0, 1, 0, 0, 0, 0), good, "0 sections"},
		{"many sections", change(amd, sev+12, 0, 0, 0, 0x40), good, "sections in"},
		{"unknown kind", change(amd, sev+16+8, 9), good, "unknown kind 9"},
		{"not a page", change(amd, sev+16, 1), good, "not whole pages"},
		{"nothing", change(amd, sev+16+4, 0, 0, 0, 0), good, "not whole pages"},
		{"much memory", change(amd, sev+16+4, 0, 0, 0, 0xf0), good, "more than 67108864 bytes"},
		{"secrets twice", change(amd, sev+16+8, sevSecrets), good, "want one page"},
		{"bad command line", amd, SNP{VCPUs: 1, CPUSignature: 1, GuestFeatures: 1, Boot: &Direct{Cmdline: "\x7f"}}, "has a byte 0x7f"},
	} {
		f, err := ParseFirmware(x.image)
		if err == nil {
			_, err = f.LaunchDigest(x.snp)
		}
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		}
	}
	section := func(i, field int) int { return td + 16 + 32*i + field }
	for _, x := range []struct {
		name  string
		image []byte
		want  string
	}{
		{"no metadata", change(full, entry(full, tdxMetadata), 1), "no TDX metadata"},
		{"metadata before the image", change(full, entry(full, tdxMetadata)-6, 0xff, 0xff, 0xff, 0xff), "before the end"},
		{"magic", change(full, td, 'X'), "this program knows TDVF"},
		{"GUID", change(full, td-1, 0), "this program knows TDVF"},
		{"version", change(full, td+8, 2), "this program knows TDVF"},
		{"length", change(full, td+4, 1), "sections in"},
		{"unknown kind", change(full, section(0, 24), 9), "unknown kind 9"},
		{"unknown attribute", change(full, section(0, 28), 3), "unknown attributes 0x3"},
		{"code that is not measured", change(full, section(0, 28), 0), "code that is not measured"},
		{"measured memory of the VMM", change(full, section(4, 28), 1), "contents where the VMM"},
		{"more memory than contents", change(full, section(0, 16), 0, 0, 0, 1), "for 16777216 bytes of memory"},
		{"contents beyond the image", change(full, section(0, 0), 0, 0, 0xff), "of the image"},
		{"overlap", change(full, section(1, 8), full[section(0, 8):section(0, 16)]...), "overlaps section 0"},
		{"end of the address space", change(full, section(2, 8), 0, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), "beyond the address space"},
		{"no TD HOB", change(full, section(4, 24), tdxTempMem), "0 TD HOBs"},
	} {
		f, err := ParseFirmware(x.image)
		if err == nil {
			_, err = f.MRTD()
		}
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		}
	}
}

// FuzzFirmware measures whatever parses, and where gce-tcb-verifier can measure as well, both agree.
func FuzzFirmware(f *testing.F) {
	f.Add(amdSevFirmware(f))
	f.Add(ovmfX64Firmware(f))
	f.Fuzz(func(t *testing.T, tail []byte) {
		if len(tail) > page {
			tail = tail[len(tail)-page:]
		}
		image := make([]byte, 1<<20)
		copy(image[len(image)-len(tail):], tail)
		fw, err := ParseFirmware(image)
		if err != nil {
			return
		}
		if m, err := fw.MRTD(); err == nil {
			if want, err := tdx.MRTD(tdx.LaunchOptionsDefault(""), image); err == nil && m != want {
				t.Errorf("%x, gce-tcb-verifier %x", m, want)
			}
		}
		g := SNP{VCPUs: 2, CPUSignature: 1, GuestFeatures: 1, Boot: &Direct{Kernel: []byte{1}}}
		if d, err := fw.LaunchDigest(g); err == nil {
			g.Boot.Kernel = []byte{2}
			if other, err := fw.LaunchDigest(g); err != nil || d == other {
				t.Errorf("another kernel, and the digest stays %x, %v", d, err)
			}
		}
	})
}

func FuzzAuthenticode(f *testing.F) {
	f.Add(pe(0x400, 0x200, nil))
	f.Add(pe(8, 8, make([]byte, 8)))
	f.Fuzz(func(t *testing.T, image []byte) {
		d, err := authenticode(image, crypto.SHA256)
		if err != nil {
			return
		}
		image = slices.Clone(image)
		image[2] ^= 1 // of the DOS header
		if other, err := authenticode(image, crypto.SHA256); err == nil && bytes.Equal(d, other) {
			t.Error("a byte does not count")
		}
	})
}
