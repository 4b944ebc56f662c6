package attestationtest

import (
	"bytes"
	"crypto/elliptic"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"
)

// Versions that devices run unless a NodeConfig says otherwise.
const (
	DriverVersion = "590.12"
	VBIOSVersion  = "96.00.A5.00.01" // of GPUs
	SwitchVersion = "96.10.73.00.01" // BIOS of NVSwitches
)

type nvidia struct {
	deviceRoot, identity, gpuICA, switchICA *signer
	rimRoot, rimCA, rimIssuer, rimSigner    *signer
}

var (
	nvidiaFrom = time.Date(2020, 10, 17, 0, 0, 0, 0, time.UTC)
	nvidiaTo   = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) // as NVIDIA's own device certificates
)

func nvidiaName(cn, serial string) pkix.Name {
	return pkix.Name{CommonName: cn, SerialNumber: serial, Organization: []string{"NVIDIA Corporation"}, Country: []string{"US"}}
}

func (a *Authority) newNVIDIA() nvidia {
	p384 := elliptic.P384()
	ca := func(parent *signer, cn string, usage x509.KeyUsage) *signer {
		return parent.issue(&x509.Certificate{Subject: nvidiaName(cn, ""), NotBefore: nvidiaFrom, NotAfter: nvidiaTo, IsCA: true,
			MaxPathLen: -1, KeyUsage: usage, OCSPServer: []string{"http://ocsp.ndis.nvidia.com"}}, a.key(p384, "nvidia ", cn))
	}
	const sign = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	var n nvidia
	n.deviceRoot = ca(nil, "NVIDIA Device Identity CA", sign)
	n.identity = ca(n.deviceRoot, "NVIDIA GH100 Identity", sign)
	n.gpuICA = ca(n.identity, "NVIDIA GH100 Provisioner ICA 1", sign)
	n.switchICA = ca(n.identity, "NVIDIA LS_10 Provisioner ICA 1", sign)
	n.rimRoot = ca(nil, "NVIDIA CoRIM signing Root CA", sign)
	n.rimCA = ca(n.rimRoot, "NVIDIA Reference Value GH100 CA", sign)
	n.rimIssuer = ca(n.rimCA, "NVIDIA Reference Value L3 GH100 002", sign)
	n.rimSigner = n.rimIssuer.issue(&x509.Certificate{Subject: nvidiaName("HCC RIM L4 Signer", ""), NotBefore: nvidiaFrom,
		NotAfter: nvidiaTo, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		OCSPServer: []string{"http://ocsp.ndis.nvidia.com"}}, a.key(p384, "nvidia rim signer"))
	return n
}

// device is one GPU or NVSwitch.
type device struct {
	gpu      bool
	pdi      [8]byte           // per-device identifier, as in the certificates
	leaf     *signer           // attestation key
	identity *x509.Certificate // of the key below it, which stays for the device's life
	chain    []byte            // PEM of five certificates, leaf first
	fwid     []byte
}

var (
	oidDICE    = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1}
	oidAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidSHA384  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	oidSPDM    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 412, 274, 1} // DMTF device information
)

// newDevice provisions device i of a node.
func (a *Authority) newDevice(node string, gpu bool, i int) *device {
	p384 := elliptic.P384()
	model, unit, prefix, ica := "GH100", "GSP", "41", a.nvidia.gpuICA
	if !gpu {
		model, unit, prefix, ica = "LS_10", "FSP", "50", a.nvidia.switchICA
	}
	id := fmt.Sprint(model, " ", node, " ", i)
	d := &device{gpu: gpu, pdi: [8]byte(a.bytes(8, "pdi ", id)), fwid: a.bytes(48, "fwid ", model)}
	brom := ica.issue(&x509.Certificate{Subject: nvidiaName(model+" A01 "+unit+" BROM", prefix+strings.ToUpper(hex.EncodeToString(d.pdi[:]))),
		NotBefore: nvidiaFrom, NotAfter: nvidiaTo, IsCA: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign},
		a.key(p384, "identity key ", id))
	d.identity = brom.cert
	k := a.key(p384, "attestation key ", id)

	// DICE CompositeDeviceID: version, identity key, firmware id (TCG DICE Attestation Architecture).
	type fwid struct {
		Algorithm asn1.ObjectIdentifier
		Digest    []byte
	}
	dice := must(asn1.Marshal(struct {
		Version int
		Key     asn1.RawValue
		FWID    fwid
	}{1, asn1.RawValue{FullBytes: must(x509.MarshalPKIXPublicKey(&brom.key.PublicKey))}, fwid{oidSHA384, d.fwid}}))
	name := must(asn1.Marshal(struct {
		ID    asn1.ObjectIdentifier
		Value asn1.RawValue
	}{oidSPDM, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true,
		Bytes: must(asn1.MarshalWithParams(fmt.Sprintf("NVIDIA:%s:%X", model, d.pdi), "utf8"))}}))
	name[0] = 0xa0 // [0] IMPLICIT otherName
	serial := k.keyID()
	serial[0] &= 0x7f
	d.leaf = brom.issue(&x509.Certificate{Subject: nvidiaName(model+" A01 "+unit+" FMC LF", fmt.Sprintf("%X", serial)),
		SerialNumber: new(big.Int).SetBytes(serial), NotBefore: nvidiaFrom, NotAfter: nvidiaTo, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{
			{Id: oidAltName, Value: must(asn1.Marshal([]asn1.RawValue{{FullBytes: name}}))},
			{Id: oidDICE, Value: dice},
		}}, k)
	d.chain = pemChain(d.leaf, brom, ica, a.nvidia.identity, a.nvidia.deviceRoot)
	return d
}

// Golden indices of the RIMs; the SPDM block is one higher. They split a GPU's 64 blocks much as NVIDIA's do. Index 35 is
// in the VBIOS RIM with a value that the report never shows: it only counts while NVDEC0 is enabled, which it is not.
var (
	driverIndices = []int{7, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30}
	vbiosIndices  = []int{1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 31, 32, 33, 35}
)

const (
	nvdecIndex    = 35
	gpuBlocks     = 64
	switchBlocks  = 31
	blockOverhead = 7
)

// measurement returns what a device that runs version shows for golden index i.
func (a *Authority) measurement(product, version string, i int) [48]byte {
	return a.digest("measurement ", product, " ", version, " ", i)
}

// gpuMeasurements returns the 64 values of a GPU.
func (a *Authority) gpuMeasurements(driver, vbios string) [][48]byte {
	out := make([][48]byte, gpuBlocks)
	for _, i := range driverIndices {
		out[i] = a.measurement("driver", driver, i)
	}
	for _, i := range vbiosIndices {
		if i != nvdecIndex {
			out[i] = a.measurement("vbios", vbios, i)
		}
	}
	return out
}

func (a *Authority) switchMeasurements(version string) [][48]byte {
	out := make([][48]byte, switchBlocks)
	for i := range out {
		out[i] = a.measurement("switch", version, i)
	}
	return out
}

// fields collects opaque TLVs.
type fields struct{ bytes.Buffer }

func (f *fields) add(id uint16, value []byte) {
	binary.Write(f, binary.LittleEndian, id)
	binary.Write(f, binary.LittleEndian, uint16(len(value)))
	f.Write(value)
}

// reversed returns a PDI in the byte order that GPUs report their switches in.
func reversed(pdi [8]byte) []byte {
	slices.Reverse(pdi[:])
	return pdi[:]
}

// gpuOpaque returns the opaque data of a GPU report, field by field in the order of real ones.
func (n *Node) gpuOpaque(d *device) []byte {
	var f fields
	vbios := must(hex.DecodeString(strings.ReplaceAll(n.config.VBIOS, ".", "")))
	f.add(6, []byte{vbios[3], vbios[2], vbios[1], vbios[0], vbios[4], 0, 0, 0})
	f.add(14, []byte{0x37, 4, 0, 0})                 // board id
	f.add(15, []byte("885\x00\x00\x00\x00\x00\x00")) // chip SKU
	f.add(16, []byte("0\x00\x00\x00\x00"))
	f.add(17, []byte("G520\x00")) // project
	f.add(18, []byte("0200\x00")) // project SKU
	f.add(19, []byte{0, 0})
	f.add(3, append([]byte(n.config.Driver), 0))
	f.add(4, []byte{0x80, 1, 0, 0, 0, 0, 0, 0})
	f.add(12, bytes.Repeat([]byte{1, 0, 0, 0}, gpuBlocks))
	f.add(13, []byte{0, 0xc0, 1, 0})
	f.add(11, []byte{0x55}) // NVDEC0 disabled
	f.add(20, d.fwid)
	feature, ppcie := byte(0), byte(0x55) // single-GPU passthrough
	if len(n.switches) > 0 || n.config.Unwired {
		feature, ppcie = 2, 0xaa // protected PCIe
	}
	if n.config.MultiPass {
		feature, ppcie = 1, 0x55
	}
	f.add(21, []byte{ppcie})
	var links []byte // 18 NVLinks, spread over the switches
	for i := range 18 {
		if len(n.switches) == 0 || n.config.Unwired {
			links = append(links, make([]byte, 8)...)
		} else {
			links = append(links, reversed(n.switches[i%len(n.switches)].pdi)...)
		}
	}
	f.add(22, links)
	f.add(34, []byte{1, 0})
	f.add(36, []byte{feature, 0})
	return f.Bytes()
}

// switchOpaque returns the opaque data of a switch report.
func (n *Node) switchOpaque(d *device) []byte {
	var f fields
	f.add(6, []byte(SwitchVersion))
	f.add(22, d.pdi[:])
	f.add(12, bytes.Repeat([]byte{1, 0, 0, 0}, switchBlocks))
	gpus := make([]byte, 64)
	for i, g := range n.gpus {
		if i < 8 {
			copy(gpus[8*i:], g.pdi[:])
		}
	}
	f.add(26, append(gpus, bytes.Repeat([]byte{0xff}, 64)...))
	f.add(23, []byte{0xec, 0})
	f.add(24, []byte{0, 0})
	f.add(25, []byte{1, 0})
	return f.Bytes()
}

// report returns the device's signed SPDM exchange (DMTF DSP0274 1.1.0, GET_MEASUREMENTS).
func (n *Node) report(d *device, nonce [32]byte) []byte {
	var values [][48]byte
	var opaque []byte
	if d.gpu {
		values, opaque = n.auth.gpuMeasurements(n.config.Driver, n.config.VBIOS), n.gpuOpaque(d)
	} else {
		values, opaque = n.auth.switchMeasurements(SwitchVersion), n.switchOpaque(d)
	}
	var b bytes.Buffer
	b.Write([]byte{0x11, 0xe0, 0x01, 0xff})
	b.Write(nonce[:])
	b.WriteByte(0) // slot

	length := len(values) * (blockOverhead + 48)
	b.Write([]byte{0x11, 0x60, 0, 0, byte(len(values)), byte(length), byte(length >> 8), byte(length >> 16)})
	for i, v := range values {
		b.Write([]byte{byte(i + 1), 1, 51, 0, 1, 48, 0})
		b.Write(v[:])
	}
	b.Write(n.auth.bytes(32, "spdm response ", nonce, d.pdi))
	binary.Write(&b, binary.LittleEndian, uint16(len(opaque)))
	b.Write(opaque)
	b.Write(d.leaf.key.raw(b.Bytes()))
	return b.Bytes()
}

// rim returns a signed reference integrity manifest in NVIDIA's format: a SWID tag (ISO/IEC 19770-2) with an enveloped
// XML signature (ecdsa-sha384, canonical XML 1.1). The body is written in canonical form, so its digest is its hash.
func (a *Authority) rim(product, edition, version string, blocks int, golden map[int][48]byte) []byte {
	const (
		swid = `xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd"`
		ns0  = `xmlns:ns0="http://standards.iso.org/iso/19770/-2/2015/schema.xsd"`
		ns2  = `xmlns:ns2="http://www.w3.org/2001/04/xmlenc#sha384"`
		ds   = `xmlns:ds="http://www.w3.org/2000/09/xmldsig#"`
	)
	var b strings.Builder
	fmt.Fprintf(&b, `<SoftwareIdentity %s %s %s corpus="false" name="%s" patch="false" supplemental="false" tagId="%x" tagVersion="0" version="1.0">`,
		swid, ns0, ns2, product, a.bytes(48, "tag ", product, edition, version))
	b.WriteString("\n" + `    <ns0:Entity name="NVIDIA Corporation" role="softwareCreator tagCreator"></ns0:Entity>`)
	fmt.Fprintf(&b, "\n"+`    <ns0:Meta xmlns:ns1="https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/" PayloadType="direct" colloquialVersion="%s" edition="%s" product="%s" revision="r1" ns1:BindingSpec="RIMIM" ns1:BindingSpecVersion="1.01" ns1:FirmwareManufacturer="NVIDIA Corporation" ns1:FirmwareManufacturerId="5703" ns1:PlatformManufacturerId="5703" ns1:PlatformManufacturerStr="NVIDIA Corporation" ns1:PlatformModel="%s"></ns0:Meta>`,
		version, edition, product, product)
	b.WriteString("\n" + `    <ns0:Payload xmlns:SHA384="http://www.w3.org/2001/04/xmlenc#sha384">`)
	for i := range blocks {
		value, active := golden[i]
		flag := "False"
		if active {
			flag = "True"
		}
		fmt.Fprintf(&b, "\n"+`        <ns0:Resource active="%s" alternatives="1" index="%d" name="Measurement_%d" size="48" type="Measurement" ns2:Hash0="%x"></ns0:Resource>`,
			flag, i, i, value)
	}
	b.WriteString("\n    </ns0:Payload>\n")
	const end = "</SoftwareIdentity>"
	digest := sha512.Sum384([]byte(b.String() + end))

	info := fmt.Sprintf(`<ds:CanonicalizationMethod Algorithm="http://www.w3.org/2006/12/xml-c14n11"></ds:CanonicalizationMethod>`+
		`<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"></ds:SignatureMethod>`+
		`<ds:Reference URI=""><ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></ds:Transform>`+
		`<ds:Transform Algorithm="http://www.w3.org/2006/12/xml-c14n11"></ds:Transform></ds:Transforms>`+
		`<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"></ds:DigestMethod>`+
		`<ds:DigestValue>%s</ds:DigestValue></ds:Reference></ds:SignedInfo>`, base64.StdEncoding.EncodeToString(digest[:]))
	// Canonical XML repeats on SignedInfo every namespace in scope there.
	n := a.nvidia
	signature := n.rimSigner.key.raw(fmt.Appendf(nil, "<ds:SignedInfo %s %s %s %s>%s", swid, ds, ns0, ns2, info))

	fmt.Fprintf(&b, `<ds:Signature %s><ds:SignedInfo>%s<ds:SignatureValue>%s</ds:SignatureValue><ds:KeyInfo><ds:X509Data>`,
		ds, info, base64.StdEncoding.EncodeToString(signature))
	for _, c := range []*signer{n.rimSigner, n.rimIssuer, n.rimCA, n.rimRoot} {
		fmt.Fprintf(&b, "<ds:X509Certificate>%s</ds:X509Certificate>", base64.StdEncoding.EncodeToString(c.cert.Raw))
	}
	b.WriteString("</ds:X509Data></ds:KeyInfo></ds:Signature>" + end)
	return []byte(b.String())
}

func (a *Authority) driverRIM(version string) []byte {
	golden := map[int][48]byte{}
	for _, i := range driverIndices {
		golden[i] = a.measurement("driver", version, i)
	}
	return a.rim("GH100", "GPU", version, gpuBlocks, golden)
}

func (a *Authority) vbiosRIM(version string) []byte {
	golden := map[int][48]byte{}
	for _, i := range vbiosIndices {
		golden[i] = a.measurement("vbios", version, i)
	}
	return a.rim("GH100", "GPU", version, gpuBlocks, golden)
}

func (a *Authority) switchRIM(version string) []byte {
	golden := map[int][48]byte{}
	for i := range switchBlocks {
		golden[i] = a.measurement("switch", version, i)
	}
	return a.rim("LS10", "SWITCH", version, switchBlocks, golden)
}
