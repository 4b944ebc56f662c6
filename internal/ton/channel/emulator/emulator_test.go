package emulator

import (
	"bytes"
	"flag"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

var update = flag.Bool("update", false, "rewrite mainnet_params.boc from the tonutils-go module")

// The embedded parameters are mainnet's, byte for byte.
func TestParamsAreMainnets(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/xssnick/tonutils-go").Output()
	if err != nil {
		t.Skipf("needs the go command to find the tonutils-go module: %v", err)
	}
	raw, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "tlb", "testdata", "blockchain_config_mainnet.boc"))
	if err != nil {
		t.Skipf("the module cache holds no test data: %v", err)
	}
	root, err := cell.FromBOC(raw)
	if err != nil {
		t.Fatal(err)
	}
	src, dict := tlb.BlockchainConfig{Root: root}, cell.NewDict(32)
	for _, id := range paramIDs {
		v := src.Get(id)
		if v == nil {
			t.Fatalf("param %d is not in the source", id)
		}
		if err = dict.SetIntKey(big.NewInt(int64(id)), cell.BeginCell().MustStoreRef(v).EndCell()); err != nil {
			t.Fatal(err)
		}
	}
	want := dict.AsCell().ToBOC()
	if *update {
		if err = os.WriteFile("mainnet_params.boc", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("mainnet_params.boc")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("mainnet_params.boc differs from mainnet's configuration: run go test -run TestParamsAreMainnets -update")
	}
}
