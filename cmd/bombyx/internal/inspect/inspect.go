// Package inspect shows what evidence says, whether or not anybody should believe it.
package inspect

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/eventlog"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/snp"
)

// A Tree is a named value or a list of named ones. As JSON it is one object, with the root's name as "kind".
type Tree struct {
	name     string
	value    string
	children []Tree
}

// Print writes the tree with two spaces for each level.
func (t Tree) Print(w io.Writer) { t.print(w, "") }

func (t Tree) print(w io.Writer, indent string) {
	if t.children == nil {
		fmt.Fprintf(w, "%s%-*s  %s\n", indent, max(0, 24-len(indent)), t.name, visible(t.value))
		return
	}
	fmt.Fprintf(w, "%s%s\n", indent, t.name)
	for _, c := range t.children {
		c.print(w, indent+"  ")
	}
}

// visible keeps foreign text from steering a terminal.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return '\ufffd'
	}, s)
}

// MarshalJSON keeps the order of the fields. Only the root's name shows, as "kind".
func (t Tree) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(`{"kind":`)
	quote(&b, t.name)
	for _, c := range t.children {
		b.WriteByte(',')
		c.member(&b)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func (t Tree) member(b *bytes.Buffer) {
	quote(b, t.name)
	b.WriteByte(':')
	if t.children == nil {
		quote(b, t.value)
		return
	}
	b.WriteByte('{')
	for i, c := range t.children {
		if i > 0 {
			b.WriteByte(',')
		}
		c.member(b)
	}
	b.WriteByte('}')
}

func quote(b *bytes.Buffer, s string) {
	q, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings always encode
	}
	b.Write(q)
}

// Read reads whatever evidence data holds, in any form that attestation.Recognise knows. It verifies nothing.
func Read(data []byte) (Tree, error) {
	kind, raw, err := attestation.Recognise(data)
	if err != nil && eventlog.Recognise(data) {
		return inspectLog(data)
	}
	if err != nil {
		return Tree{}, err
	}
	root := Tree{name: string(kind), children: []Tree{{name: "bytes", value: strconv.Itoa(len(raw))}, {name: "sha256", value: fmt.Sprintf("%x", sha256.Sum256(raw))}}}
	var parts []Tree
	switch kind {
	case attestation.KindTDXQuote, attestation.KindSGXQuote:
		parts, err = inspectQuote(raw)
	case attestation.KindSNPReport:
		parts, err = inspectSNP(raw)
	case attestation.KindGPUReport, attestation.KindSwitchReport:
		parts, err = inspectDevice(raw)
	case attestation.KindEvidence:
		parts, err = inspectEvidence(raw)
		if e, _, ok := attestation.SplitEpoch(data); ok {
			root.children = append(root.children, Tree{name: "epoch", children: []Tree{{name: "seqno", value: strconv.FormatUint(uint64(e.Seqno), 10)},
				{name: "root_hash", value: fmt.Sprintf("%x", e.RootHash)}, {name: "nonce", value: fmt.Sprintf("%x", e.Nonce())}}})
		}
	default: // a document of another network: show it as it is, and what it carries
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber() // a float would round 64-bit numbers
		var doc any
		if kind == attestation.KindOECertificate { // DER begins with what JSON takes for a number
			parts = []Tree{certificate("certificate", raw)}
		} else if d.Decode(&doc) == nil {
			parts = []Tree{documentTree("document", doc)}
		} else if kind == attestation.KindCocoon {
			parts, err = inspectChain("certificate", raw)
		}
		if p, err := attestation.TakeApart(raw, nil); err != nil {
			parts = append(parts, Tree{name: "evidence", value: err.Error()})
		} else {
			parts = append(parts, inspectParts(p.CPU, p.Devices)...)
		}
	}
	if err != nil {
		return Tree{}, err
	}
	root.children = append(root.children, parts...)
	return root, nil
}

// inspectLog shows a log's events, whether each one's data is what its digest says, and the registers that they lead to.
func inspectLog(data []byte) (Tree, error) {
	l, err := eventlog.Parse(data)
	if err != nil {
		return Tree{}, err
	}
	replayed, err := eventlog.Replay(l)
	if err != nil {
		return Tree{}, err
	}
	registers, events, bindings := Tree{name: "registers", children: []Tree{}}, Tree{name: "events", children: []Tree{}}, map[eventlog.Binding]int{}
	for _, n := range slices.Sorted(maps.Keys(replayed)) {
		registers.children = append(registers.children, Tree{name: fmt.Sprintf("%v%d", l.Registers, n), value: fmt.Sprintf("%x", replayed[n])})
	}
	for i, e := range l.Events {
		bindings[e.Binding]++
		t := Tree{name: fmt.Sprintf("event[%d]", i), children: []Tree{{name: "register", value: fmt.Sprintf("%v%d", l.Registers, e.Register)},
			{name: "type", value: e.Type.String()}, {name: "digest", value: fmt.Sprintf("%x", e.Digest)}, {name: "binding", value: e.Binding.String()}}}
		if e.Name != "" {
			t.children = append(t.children, Tree{name: "name", value: e.Name})
		}
		t.children = append(t.children, Tree{name: "data", value: fmt.Sprintf("%x", e.Data)})
		events.children = append(events.children, t)
	}
	digests := Tree{name: "digests", children: []Tree{}}
	for _, b := range []eventlog.Binding{eventlog.Bound, eventlog.Unbound, eventlog.Contradicted, eventlog.NotMeasured} {
		digests.children = append(digests.children, Tree{name: b.String(), value: strconv.Itoa(bindings[b])})
	}
	return Tree{name: "event-log", children: []Tree{{name: "bytes", value: strconv.Itoa(len(data))}, {name: "sha256", value: fmt.Sprintf("%x", sha256.Sum256(data))},
		{name: "algorithm", value: l.Algorithm.String()}, digests, registers, events}}, nil
}

func inspectQuote(raw []byte) ([]Tree, error) {
	q, err := dcap.ParseQuote(raw)
	if err != nil {
		return nil, err
	}
	t := fields(reflect.ValueOf(*q), "Raw", "Signed", "QEReportSigned", "PCKChain", "CertificationData")
	if q.PCKChain == nil {
		return append(t, Tree{name: "CertificationData", value: fmt.Sprintf("%x", q.CertificationData)}), nil
	}
	for i, der := range q.PCKChain {
		t = append(t, certificate(fmt.Sprintf("PCKChain[%d]", i), der))
	}
	if c, err := x509.ParseCertificate(q.PCKChain[0]); err == nil {
		if p, err := dcap.ParsePCK(c); err == nil {
			t = append(t, Tree{name: "PCK", children: fields(reflect.ValueOf(*p))})
		}
	}
	return t, nil
}

func inspectSNP(raw []byte) ([]Tree, error) {
	r, err := snp.ParseReport(raw)
	if err != nil {
		return nil, err
	}
	t := fields(reflect.ValueOf(*r), "Raw")
	if p, err := r.Product(); err == nil {
		t = append(t, Tree{name: "Product", value: string(p)})
	}
	return append(t, Tree{name: "Signature", value: fmt.Sprintf("%x", r.Raw[0x2a0:])}), nil
}

func inspectDevice(raw []byte) ([]Tree, error) {
	r, err := nvidia.ParseReport(raw)
	if err != nil {
		return nil, err
	}
	return fields(reflect.ValueOf(*r), "Signed"), nil
}

func inspectEvidence(raw []byte) ([]Tree, error) {
	e, err := attestation.ParseEvidence(raw)
	if err != nil {
		return nil, err
	}
	t := []Tree{{name: "Nonce", value: fmt.Sprintf("%x", e.Nonce)}, {name: "Mode", value: string(e.Mode)}}
	if k, err := keyset.Parse(e.Keyset); err == nil {
		t = append(t, Tree{name: "Keyset", children: fields(reflect.ValueOf(*k))})
	} else {
		t = append(t, Tree{name: "Keyset", value: fmt.Sprintf("%x (%v)", e.Keyset, err)})
	}
	return append(t, inspectParts(e.CPU, e.Devices)...), nil
}

// inspectParts shows a quote or report and the devices beside it. What cannot be read becomes a line that says why.
func inspectParts(cpu attestation.CPU, devices []attestation.Device) (t []Tree) {
	part := func(name string, children []Tree, err error) {
		if err != nil {
			t = append(t, Tree{name: name, value: err.Error()})
			return
		}
		t = append(t, Tree{name: name, children: children})
	}
	switch cpu.Kind {
	case attestation.CPUTDX:
		name := "CPU " + string(cpu.Kind)
		if q, err := dcap.ParseQuote(cpu.Quote); err == nil && q.TEEType == dcap.TEESGX {
			name = "CPU sgx" // a DCAP quote says itself which it is
		}
		c, err := inspectQuote(cpu.Quote)
		part(name, c, err)
	case attestation.CPUSNP:
		c, err := inspectSNP(cpu.Quote)
		part("CPU "+string(cpu.Kind), c, err)
		if len(cpu.Certificates) > 0 {
			c, err = inspectChain("certificate", cpu.Certificates)
			part("CPU certificates", c, err)
		}
	}
	for i, d := range devices {
		name := fmt.Sprintf("Device[%d] %s", i, d.Kind)
		c, err := inspectDevice(d.Report)
		part(name, c, err)
		c, err = inspectChain("certificate", d.Certificates)
		part(name+" certificates", c, err)
	}
	return t
}

// inspectChain reads certificates in PEM or DER.
func inspectChain(name string, b []byte) ([]Tree, error) {
	var t []Tree
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		t, b = append(t, certificate(fmt.Sprintf("%s[%d]", name, len(t)), block.Bytes)), rest
	}
	if t != nil {
		return t, nil
	}
	certs, err := x509.ParseCertificates(b)
	for i, c := range certs {
		t = append(t, certificate(fmt.Sprintf("%s[%d]", name, i), c.Raw))
	}
	return t, err
}

func certificate(name string, der []byte) Tree {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return Tree{name: name, value: fmt.Sprintf("%x (%v)", der, err)}
	}
	return Tree{name: name, children: []Tree{
		{name: "Subject", value: c.Subject.String()}, {name: "Issuer", value: c.Issuer.String()}, {name: "Serial", value: c.SerialNumber.Text(16)},
		{name: "NotBefore", value: c.NotBefore.UTC().Format(time.RFC3339)}, {name: "NotAfter", value: c.NotAfter.UTC().Format(time.RFC3339)},
		{name: "SHA256", value: fmt.Sprintf("%x", sha256.Sum256(der))},
	}}
}

// fields lists a struct's exported fields but those in skip.
func fields(v reflect.Value, skip ...string) []Tree {
	t := []Tree{}
next:
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		for _, s := range skip {
			if s == f.Name {
				continue next
			}
		}
		if x, ok := describe(f.Name, v.Field(i)); ok {
			t = append(t, x)
		}
	}
	return t
}

// describe returns one value; ok is false for what is absent.
func describe(name string, v reflect.Value) (t Tree, ok bool) {
	t.name = name
	if x, is := v.Interface().(time.Time); is {
		t.value = x.UTC().Format(time.RFC3339)
		return t, true
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return t, false
		}
		return describe(name, v.Elem())
	case reflect.Struct:
		t.children = fields(v)
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			t.value = fmt.Sprintf("%x", v.Interface())
			break
		}
		t.children = []Tree{}
		for i := range v.Len() {
			if x, ok := describe(fmt.Sprintf("%s[%d]", name, i), v.Index(i)); ok {
				t.children = append(t.children, x)
			}
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		t.value = fmt.Sprint(v.Interface())
		if number := strconv.FormatUint(v.Uint(), 10); t.value == number && v.Type().PkgPath() != "" || v.Kind() == reflect.Uint64 {
			t.value = fmt.Sprintf("%#x", v.Uint()) // flags
		} else if t.value != number {
			t.value += " (" + number + ")"
		}
	default:
		t.value = fmt.Sprint(v.Interface())
	}
	return t, true
}

func documentTree(name string, v any) Tree {
	t := Tree{name: name}
	switch x := v.(type) {
	case map[string]any:
		t.children = []Tree{}
		for _, k := range slices.Sorted(maps.Keys(x)) {
			t.children = append(t.children, documentTree(k, x[k]))
		}
	case []any:
		t.children = []Tree{}
		for i, e := range x {
			t.children = append(t.children, documentTree(strconv.Itoa(i), e))
		}
	default:
		t.value = fmt.Sprint(x)
	}
	return t
}
