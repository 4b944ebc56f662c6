// Package alone keeps account of which checks tests have seen to fail with no other beside them: a check without such a test could
// be dropped, or could pass whatever it is given, and nobody would notice.
package alone

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A Recorder is safe for concurrent use. The zero Recorder is empty.
type Recorder struct {
	mu           sync.Mutex
	alone, among map[string]bool
}

// Failed takes the identifiers of the checks that failed in one appraisal. The prefix of a device or registry
// does not count.
func (r *Recorder) Failed(ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.alone == nil {
		r.alone, r.among = map[string]bool{}, map[string]bool{}
	}
	var names []string
	for _, id := range ids {
		device, rest, _ := strings.Cut(id, ".")
		if strings.HasPrefix(device, "gpu") || strings.HasPrefix(device, "switch") || strings.HasPrefix(device, "registry") {
			id = rest
		}
		if !slices.Contains(names, id) {
			names = append(names, id)
		}
	}
	for _, id := range names {
		r.among[id] = true
		r.alone[id] = r.alone[id] || len(names) == 1
	}
}

// Main runs a package's tests, for TestMain, and then demands of every check that the package names in a constant beginning with
// Check that it has failed alone. Never lists those that cannot fail, with the reason.
func (r *Recorder) Main(m *testing.M, never map[string]string) {
	code := m.Run()
	if code == 0 && everything() {
		if err := r.complete(never); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// everything reports whether all tests were asked for.
func everything() bool {
	for _, name := range []string{"run", "skip", "list", "fuzz", "bench"} {
		if f := flag.Lookup("test." + name); f != nil && f.Value.String() != "" {
			return false
		}
	}
	return flag.Lookup("test.fuzzworker").Value.String() != "true"
}

func (r *Recorder) complete(never map[string]string) error {
	ids, err := constants(".")
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		return fmt.Errorf("no check is named by a constant")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var wrong []string
	for _, id := range ids {
		reason, exempt := never[id]
		switch {
		case !exempt && !r.alone[id]:
			wrong = append(wrong, id+": no test makes it fail alone")
		case exempt && r.among[id]:
			wrong = append(wrong, id+": it has failed, though "+reason)
		}
	}
	for id := range never {
		if !slices.Contains(ids, id) {
			wrong = append(wrong, id+": there is no such check")
		}
	}
	if wrong == nil {
		return nil
	}
	slices.Sort(wrong)
	return fmt.Errorf("checks without a negative test of their own:\n  %s", strings.Join(wrong, "\n  "))
}

// constants returns the values of the string constants in a directory's Go files whose names begin with Check.
func constants(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			return nil, err
		}
		for _, d := range file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				for i, n := range v.Names {
					if !strings.HasPrefix(n.Name, "Check") || i >= len(v.Values) {
						continue
					}
					if l, ok := v.Values[i].(*ast.BasicLit); ok && l.Kind == token.STRING {
						id, err := strconv.Unquote(l.Value)
						if err != nil {
							return nil, err
						}
						ids = append(ids, id)
					}
				}
			}
		}
	}
	return ids, nil
}
