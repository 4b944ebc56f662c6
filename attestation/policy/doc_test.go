package policy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

// The Go documentation is the policy's reference: every member of the document must say what it means. One comment may
// speak for the fields that follow it when it names them.
func TestEveryFieldIsDocumented(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	fields := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || !spec.Name.IsExported() {
				return true
			}
			structure, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			last := ""
			for _, field := range structure.Fields.List {
				if field.Tag == nil || len(field.Names) == 0 {
					continue
				}
				fields++
				if field.Doc != nil {
					last = field.Doc.Text()
				}
				if name := field.Names[0].Name; field.Doc == nil && !strings.Contains(last, name) {
					t.Errorf("%s.%s has no comment", spec.Name, name)
				}
			}
			return true
		})
	}
	if fields < 60 {
		t.Errorf("only %d fields were found", fields)
	}
}
