package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"syscall/js"
	"time"

	"github.com/bombyx-network/bombyx/attestation"
	"github.com/bombyx-network/bombyx/attestation/check"
	"github.com/bombyx-network/bombyx/attestation/collateral"
	"github.com/bombyx-network/bombyx/attestation/policy"
	"github.com/bombyx-network/bombyx/attestation/results"
)

// maxCollateral bounds all collateral of one appraisal, in bytes: what "bombyx verify" takes of a folder.
const maxCollateral = 4 * collateral.MaxBundle

// main gives the page its one function, bombyx.appraise, and stays to serve it.
func main() {
	policies := map[string]any{}
	for _, name := range policy.Builtin() {
		document, _ := policy.Document(name)
		policies[name] = string(document)
	}
	js.Global().Set("bombyx", map[string]any{
		"appraise": js.FuncOf(func(_ js.Value, args []js.Value) any { return appraise(args[0]) }),
		"policies": policies,
		"limits": map[string]any{
			"evidence":     attestation.MaxInput,
			"policy":       policy.MaxDocument,
			"certificates": attestation.MaxCertificates,
			"collateral":   maxCollateral,
		},
	})
	select {}
}

// A view is what the page shows beside the JSON.
type view struct {
	// Verdict is "verified", "rejected", or what of collateral alone makes it rejected: "missing" or "expired".
	Verdict    string   `json:"verdict"`
	Policy     string   `json:"policy"`
	TCBStatus  string   `json:"tcb_status"`
	Advisories []string `json:"advisories"`
	Missing    []string `json:"missing"`
	Expired    []string `json:"expired"`
	At         string   `json:"at"`
	ValidUntil string   `json:"valid_until"`
	Checks     []row    `json:"checks"`
}

type row struct {
	ID       string `json:"id"`
	Title    string `json:"title"`
	Status   string `json:"status"`
	Required bool   `json:"required"`
	Clause   string `json:"clause"`
	Seen     string `json:"seen"`
	Wanted   string `json:"wanted"`
	Detail   string `json:"detail"`
	// Bytes are what the check rests on.
	Bytes []excerpt `json:"bytes"`
}

type excerpt struct {
	Where string `json:"where"`
	Hex   string `json:"hex"` // shortened
}

// appraise returns {json, view}, the second as JSON as well, or {error}. A panic would end the program and the page with it.
func appraise(request js.Value) (answer map[string]any) {
	defer func() {
		if p := recover(); p != nil {
			answer = map[string]any{"error": fmt.Sprintf("the verifier failed: %v. Please report this with the files.", p)}
		}
	}()
	r, excerpts, err := run(request)
	if err != nil {
		return map[string]any{"error": err.Error()}
	}
	doc := results.FromResult(r)
	v := view{Verdict: doc.Verdict, Policy: r.Policy, TCBStatus: doc.TCBStatus, Advisories: doc.Advisories, Missing: r.Missing, Expired: r.Stale,
		At: r.AppraisedAt.UTC().Format(time.RFC3339), ValidUntil: doc.ValidUntil}
	switch err := r.Err(); {
	case errors.Is(err, check.ErrMissing):
		v.Verdict = "missing"
	case errors.Is(err, check.ErrStale):
		v.Verdict = "expired"
	}
	for i, c := range r.Checks {
		shown := row{c.ID, c.Title, string(c.Status), c.Required, c.Clause, c.Seen, c.Wanted, c.Detail, []excerpt{}}
		for _, e := range excerpts[i] {
			shown.Bytes = append(shown.Bytes, excerpt{results.Where(e), results.Bytes(e)})
		}
		v.Checks = append(v.Checks, shown)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return map[string]any{"error": err.Error()}
	}
	return map[string]any{"json": string(results.JSON(r)), "view": string(b)}
}

func run(request js.Value) (*attestation.Result, [][]attestation.Excerpt, error) {
	at, err := instant(request.Get("at").String())
	if err != nil {
		return nil, nil, err
	}
	var want attestation.Expected
	if want.Nonce, err = digits("Nonce", request.Get("nonce").String(), 32); err != nil {
		return nil, nil, err
	}
	if want.ReportData, err = digits("Report data", request.Get("reportData").String(), 64); err != nil {
		return nil, nil, err
	}
	pol, err := policy.Parse([]byte(request.Get("policy").String()))
	if err != nil {
		return nil, nil, fmt.Errorf("Policy: %w", err)
	}
	if c := request.Get("certificates"); c.Truthy() {
		want.Certificates = content(c)
	}
	bundle, err := bundleOf(request.Get("collateral"))
	if err != nil {
		return nil, nil, err
	}
	v, err := attestation.NewVerifier(pol, bundle)
	if errors.Is(err, policy.ErrNoSnapshot) {
		return nil, nil, fmt.Errorf("%w. This page cannot read registries: use bombyx verify.", err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w. Add the root certificates that the policy pins to the collateral.", err)
	}
	evidence := content(request.Get("evidence"))
	r, err := v.AppraiseSaved(at, evidence, want)
	if err != nil {
		return nil, nil, fmt.Errorf("Evidence: %w. Is it the right file?", err)
	}
	excerpts, err := v.Explain(evidence, want, r)
	return r, excerpts, err
}

// content copies the bytes of a {name, bytes} object.
func content(file js.Value) []byte {
	array := file.Get("bytes")
	b := make([]byte, array.Get("length").Int())
	js.CopyBytesToGo(b, array)
	return b
}

func bundleOf(files js.Value) (*collateral.Bundle, error) {
	inputs := make([][]byte, files.Length())
	for i := range inputs {
		inputs[i] = content(files.Index(i))
	}
	bundle, err := collateral.New(inputs...)
	if err == nil {
		return bundle, nil
	}
	// Say which file it was.
	for i, in := range inputs {
		if _, err := collateral.New(in); err != nil {
			return nil, fmt.Errorf("Collateral, %s: %w", files.Index(i).Get("name").String(), err)
		}
	}
	return nil, fmt.Errorf("Collateral: %w", err)
}

func instant(text string) (time.Time, error) {
	if text == "" {
		return time.Now(), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fmt.Errorf("Time: want RFC 3339, as in 2026-01-02T03:04:05Z")
	}
	return at, nil
}

func digits(field, text string, size int) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != size {
		return nil, fmt.Errorf("%s: want %d hexadecimal digits, without 0x", field, 2*size)
	}
	return b, nil
}
