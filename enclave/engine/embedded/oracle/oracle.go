// Package oracle asks llama.cpp, for tests and benchmarks that compare with it.
//
// llama.cpp comes from npm into a folder outside the repository, once:
//
//	npm install --prefix "${XDG_CACHE_HOME:-$HOME/.cache}/bombyx/llamacpp" --ignore-scripts --omit=optional \
//	    node-llama-cpp@3.22.1 @node-llama-cpp/linux-x64@3.22.1
//
// BOMBYX_LLAMACPP names another folder. Tests that need it skip when it is missing.
package oracle

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

//go:embed llamacpp.mjs
var script string

// Job is one thing to ask: the tokens of a text, or what follows given tokens.
type Job struct {
	Text   *string `json:"text,omitempty"`
	Markup bool    `json:"markup,omitempty"` // whether special tokens in the text count

	IDs      []int `json:"ids,omitempty"`
	Generate int   `json:"generate,omitempty"` // number of tokens to generate greedily
	Repeat   int   `json:"repeat,omitempty"`   // generate so many times and take the best times
}

// Result answers a [Job].
type Result struct {
	IDs             []int   `json:"ids"`
	PromptSeconds   float64 `json:"promptSeconds"`   // processor time until the first generated token
	GenerateSeconds float64 `json:"generateSeconds"` // processor time for the others
}

// Missing says why llama.cpp cannot be asked, or nothing.
func Missing() string {
	if _, err := os.Stat(filepath.Join(folder(), "node_modules", "node-llama-cpp")); err != nil {
		return "llama.cpp is not installed; see the comment of package oracle: " + err.Error()
	}
	if _, err := exec.LookPath("node"); err != nil {
		return "node is not installed"
	}
	return ""
}

func folder() string {
	if f := os.Getenv("BOMBYX_LLAMACPP"); f != "" {
		return f
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "bombyx", "llamacpp")
}

// Question is a GGUF file and what to ask about it.
type Question struct {
	Model []byte
	Jobs  []Job
}

// Ask runs all jobs with one thread, in one process, and returns their results in order. It skips the test when llama.cpp
// is missing.
func Ask(tb testing.TB, questions ...Question) [][]Result {
	tb.Helper()
	if why := Missing(); why != "" {
		tb.Skip("SKIPPED, NOT PASSED: " + why)
	}
	dir := tb.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			tb.Fatal(err)
		}
		return path
	}
	type question struct {
		Model string `json:"model"` // path
		Jobs  []Job  `json:"jobs"`
	}
	var list []question
	for i, q := range questions {
		list = append(list, question{write(fmt.Sprintf("%d.gguf", i), q.Model), q.Jobs})
	}
	input, err := json.Marshal(list)
	if err != nil {
		tb.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("node", write("llamacpp.mjs", []byte(script)), folder(), write("questions.json", input))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		tb.Fatalf("llama.cpp: %v\n%s", err, stderr.String())
	}
	var results [][]Result
	if err := json.Unmarshal(stdout.Bytes(), &results); err != nil || len(results) != len(questions) {
		tb.Fatalf("llama.cpp answered %.200q: %v", stdout.String(), err)
	}
	for i, r := range results {
		if len(r) != len(questions[i].Jobs) {
			tb.Fatalf("llama.cpp answered %d of %d jobs", len(r), len(questions[i].Jobs))
		}
	}
	return results
}
