//go:build !js

// Bombyx-web builds a page that appraises Evidence in the browser: the attestation package as WebAssembly behind static
// files. The page makes no requests but for its own files, and its Content-Security-Policy has the browser see to that.
//
//	go run ./cmd/bombyx-web DIR
//
// DIR then holds everything; any web server can serve it, and index.html opens from a disk as well.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed web
var static embed.FS

const program = "github.com/bombyx-network/bombyx/cmd/bombyx-web"

func main() {
	if len(os.Args) != 2 || strings.HasPrefix(os.Args[1], "-") {
		fmt.Fprintln(os.Stderr, "usage: go run ./cmd/bombyx-web DIR, in the module: writes the page into DIR")
		os.Exit(2)
	}
	files, err := page()
	if err == nil {
		err = write(os.Args[1], files)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bombyx-web:", err)
		os.Exit(1)
	}
}

type file struct {
	name    string
	content []byte
}

// page returns the files of the page.
func page() ([]file, error) {
	var files []file
	err := fs.WalkDir(static, "web", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := static.ReadFile(path)
		files = append(files, file{strings.TrimPrefix(path, "web/"), b})
		return err
	})
	if err != nil {
		return nil, err
	}
	root, err := goTool(nil, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	// The glue must be of the compiler's own release.
	glue, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), "lib", "wasm", "wasm_exec.js"))
	if err != nil {
		return nil, err
	}
	verifier, err := compile()
	if err != nil {
		return nil, err
	}
	return append(files, file{"wasm_exec.js", glue}, file{"verifier.js", verifier}), nil
}

// compile returns the WebAssembly as a script that leaves it in a variable, gzip in base64: a page that loads everything
// by <script> can forbid itself every connection.
func compile() ([]byte, error) {
	dir, err := os.MkdirTemp("", "bombyx-web-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "verifier.wasm")
	if _, err := goTool([]string{"GOOS=js", "GOARCH=wasm", "CGO_ENABLED=0"}, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, program); err != nil {
		return nil, err
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		return nil, err
	}
	var script bytes.Buffer
	script.WriteString(`globalThis.verifierWasm = "`)
	text := base64.NewEncoder(base64.StdEncoding, &script)
	z, err := gzip.NewWriterLevel(text, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	_, err = z.Write(wasm)
	if err := errors.Join(err, z.Close(), text.Close()); err != nil {
		return nil, err
	}
	script.WriteString("\";\n")
	return script.Bytes(), nil
}

func goTool(env []string, args ...string) ([]byte, error) {
	c := exec.Command("go", args...)
	c.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, stderr.Bytes())
	}
	return out, nil
}

// write writes the files and prints their digests: two builds of one source by one release of Go agree.
func write(dir string, files []file) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.content, 0o644); err != nil {
			return err
		}
		fmt.Printf("%x  %s\n", sha256.Sum256(f.content), f.name)
	}
	return nil
}
