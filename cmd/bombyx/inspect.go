package main

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

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/dcap"
	"github.com/bombyx-network/bombyx/attestation/keyset"
	"github.com/bombyx-network/bombyx/attestation/nvidia"
	"github.com/bombyx-network/bombyx/attestation/snp"
	"github.com/bombyx-network/bombyx/internal/cli"
)

func inspectCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "inspect FILE", Short: "Show everything that evidence says, believed or not", Args: cobra.ExactArgs(1),
		Long: `inspect shows every field of a quote, report or composite document. It verifies nothing:
anybody can write these bytes. "bombyx verify" says whether to believe them.`,
		Example: "  bombyx inspect quote.bin\n  bombyx inspect --json evidence.json"}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		data, err := cli.ReadFile(args[0], attestation.MaxInput)
		if err != nil {
			return err
		}
		n, err := inspect(data)
		if err != nil {
			return cli.Errorf(cli.Usage, "is it the right file?", "%s: %w", args[0], err)
		}
		if asJSON {
			return printJSON(cmd.OutOrStdout(), n)
		}
		fmt.Fprintln(cmd.OutOrStdout(), "not verified: anybody can write this")
		n.print(cmd.OutOrStdout(), "")
		return nil
	}
	return c
}

// A tree is a named value or a list of named ones.
type tree struct {
	name     string
	value    string
	children []tree
}

func (t tree) print(w io.Writer, indent string) {
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
func (t tree) MarshalJSON() ([]byte, error) {
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

func (t tree) member(b *bytes.Buffer) {
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

// inspect reads whatever evidence data holds.
func inspect(data []byte) (tree, error) {
	kind, raw, err := attestation.Recognise(data)
	if err != nil {
		return tree{}, err
	}
	root := tree{name: string(kind), children: []tree{{name: "bytes", value: strconv.Itoa(len(raw))}, {name: "sha256", value: fmt.Sprintf("%x", sha256.Sum256(raw))}}}
	var parts []tree
	switch kind {
	case attestation.KindTDXQuote, attestation.KindSGXQuote:
		parts, err = inspectQuote(raw)
	case attestation.KindSNPReport:
		parts, err = inspectSNP(raw)
	case attestation.KindGPUReport, attestation.KindSwitchReport:
		parts, err = inspectDevice(raw)
	case attestation.KindEvidence:
		parts, err = inspectEvidence(raw)
	default: // a document of another network: show it as it is
		var doc any
		if json.Unmarshal(raw, &doc) == nil {
			parts = []tree{documentTree("document", doc)}
		} else {
			parts, err = inspectChain("certificate", raw)
		}
	}
	if err != nil {
		return tree{}, err
	}
	root.children = append(root.children, parts...)
	return root, nil
}

func inspectQuote(raw []byte) ([]tree, error) {
	q, err := dcap.ParseQuote(raw)
	if err != nil {
		return nil, err
	}
	t := fields(reflect.ValueOf(*q), "Raw", "Signed", "QEReportSigned", "PCKChain", "CertificationData")
	if q.PCKChain == nil {
		return append(t, tree{name: "CertificationData", value: fmt.Sprintf("%x", q.CertificationData)}), nil
	}
	for i, der := range q.PCKChain {
		t = append(t, certificate(fmt.Sprintf("PCKChain[%d]", i), der))
	}
	if c, err := x509.ParseCertificate(q.PCKChain[0]); err == nil {
		if p, err := dcap.ParsePCK(c); err == nil {
			t = append(t, tree{name: "PCK", children: fields(reflect.ValueOf(*p))})
		}
	}
	return t, nil
}

func inspectSNP(raw []byte) ([]tree, error) {
	r, err := snp.ParseReport(raw)
	if err != nil {
		return nil, err
	}
	t := fields(reflect.ValueOf(*r), "Raw")
	if p, err := r.Product(); err == nil {
		t = append(t, tree{name: "Product", value: string(p)})
	}
	return append(t, tree{name: "Signature", value: fmt.Sprintf("%x", r.Raw[0x2a0:])}), nil
}

func inspectDevice(raw []byte) ([]tree, error) {
	r, err := nvidia.ParseReport(raw)
	if err != nil {
		return nil, err
	}
	return fields(reflect.ValueOf(*r), "Signed"), nil
}

func inspectEvidence(raw []byte) ([]tree, error) {
	e, err := attestation.ParseEvidence(raw)
	if err != nil {
		return nil, err
	}
	t := []tree{{name: "Nonce", value: fmt.Sprintf("%x", e.Nonce)}, {name: "Mode", value: string(e.Mode)}}
	if k, err := keyset.Parse(e.Keyset); err == nil {
		t = append(t, tree{name: "Keyset", children: fields(reflect.ValueOf(*k))})
	} else {
		t = append(t, tree{name: "Keyset", value: fmt.Sprintf("%x (%v)", e.Keyset, err)})
	}
	part := func(name string, children []tree, err error) {
		if err != nil {
			t = append(t, tree{name: name, value: err.Error()})
			return
		}
		t = append(t, tree{name: name, children: children})
	}
	switch e.CPU.Kind {
	case attestation.CPUTDX:
		c, err := inspectQuote(e.CPU.Quote)
		part("CPU "+string(e.CPU.Kind), c, err)
	case attestation.CPUSNP:
		c, err := inspectSNP(e.CPU.Quote)
		part("CPU "+string(e.CPU.Kind), c, err)
		c, err = inspectChain("certificate", e.CPU.Certificates)
		part("CPU certificates", c, err)
	}
	for i, d := range e.Devices {
		name := fmt.Sprintf("Device[%d] %s", i, d.Kind)
		c, err := inspectDevice(d.Report)
		part(name, c, err)
		c, err = inspectChain("certificate", d.Certificates)
		part(name+" certificates", c, err)
	}
	return t, nil
}

// inspectChain reads certificates in PEM or DER.
func inspectChain(name string, b []byte) ([]tree, error) {
	var t []tree
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

func certificate(name string, der []byte) tree {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return tree{name: name, value: fmt.Sprintf("%x (%v)", der, err)}
	}
	return tree{name: name, children: []tree{
		{name: "Subject", value: c.Subject.String()}, {name: "Issuer", value: c.Issuer.String()}, {name: "Serial", value: c.SerialNumber.Text(16)},
		{name: "NotBefore", value: c.NotBefore.UTC().Format(time.RFC3339)}, {name: "NotAfter", value: c.NotAfter.UTC().Format(time.RFC3339)},
		{name: "SHA256", value: fmt.Sprintf("%x", sha256.Sum256(der))},
	}}
}

// fields lists a struct's exported fields but those in skip.
func fields(v reflect.Value, skip ...string) []tree {
	t := []tree{}
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
func describe(name string, v reflect.Value) (t tree, ok bool) {
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
		t.children = []tree{}
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

func documentTree(name string, v any) tree {
	t := tree{name: name}
	switch x := v.(type) {
	case map[string]any:
		t.children = []tree{}
		for _, k := range slices.Sorted(maps.Keys(x)) {
			t.children = append(t.children, documentTree(k, x[k]))
		}
	case []any:
		t.children = []tree{}
		for i, e := range x {
			t.children = append(t.children, documentTree(strconv.Itoa(i), e))
		}
	default:
		t.value = fmt.Sprint(x)
	}
	return t
}
