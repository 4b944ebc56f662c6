package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/bombyx-network/bombyx"

// deps lists what a package links, tests left out.
func deps(t *testing.T, env []string, pattern string) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{else if eq .ImportPath \"net/http\"}}net/http{{end}}", pattern)
	cmd.Dir = "../.."
	cmd.Env = append(cmd.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v", pattern, err)
	}
	return strings.Fields(string(out))
}

// Arrows point one way: cmd -> host | enclave | client -> internal -> attestation.
func TestImportsPointOneWay(t *testing.T) {
	for _, c := range []struct {
		room  string
		never []string
		env   []string
	}{
		{"attestation", []string{module + "/internal", module + "/client", module + "/enclave", module + "/host", module + "/cmd", "net/http",
			"github.com/google/go-tdx-guest", "github.com/google/go-sev-guest"}, nil},
		{"attestation/measure", []string{module + "/internal", "net/http", "github.com/google/gce-tcb-verifier"}, nil},
		{"attestation/policy", []string{module + "/internal", "net/http"}, nil},
		{"attestation/collateral", []string{module + "/internal", "net/http"}, nil},
		{"attestation/results", []string{module + "/internal", "net/http"}, nil},
		{"attestation", []string{"net/http"}, []string{"GOOS=js", "GOARCH=wasm"}},
		{"enclave", []string{module + "/host", module + "/client", module + "/internal/ton", module + "/cmd", "github.com/xssnick/tonutils-go"}, nil},
		{"enclave/launch", []string{module + "/host", module + "/client", module + "/internal/ton", module + "/attestation/attestationtest", "modernc.org/sqlite"}, nil},
		{"client", []string{module + "/host", module + "/enclave", module + "/cmd", module + "/attestation/attestationtest"}, nil},
		{"client/profile", []string{module + "/host", module + "/enclave", module + "/cmd", module + "/attestation/attestationtest", "github.com/spf13/cobra"}, nil},
		{"host", []string{module + "/client", module + "/enclave", module + "/cmd", module + "/attestation/attestationtest", "github.com/prometheus"}, nil},
		{"cmd/bombyx", []string{module + "/host", module + "/enclave", module + "/attestation/attestationtest"}, nil},
		{"cmd/bombyx-host", []string{module + "/client", module + "/enclave", module + "/attestation/attestationtest"}, nil},
		{"cmd/bombyx-enclave", []string{module + "/client", module + "/host", module + "/internal/ton", module + "/attestation/attestationtest"}, nil},
	} {
		for _, d := range deps(t, c.env, "./"+c.room) {
			for _, n := range c.never {
				if d == n || strings.HasPrefix(d, n+"/") {
					t.Errorf("%s links %s", c.room, d)
				}
			}
		}
	}
}
