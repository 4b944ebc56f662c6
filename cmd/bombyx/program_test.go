package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/client/profile"
)

// programMain is a Go program of a user's: it pays from the channel that the command opened.
func programMain() {
	err := program(context.Background(), strings.Join(os.Args[1:], " "))
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, err)
	var e *profile.Error
	if errors.As(err, &e) {
		fmt.Fprintln(os.Stderr, e.Hint)
	}
	os.Exit(1)
}

func program(ctx context.Context, question string) (err error) {
	dir, err := profile.Default()
	if err != nil {
		return err
	}
	line, err := dir.Dial(ctx, profile.Options{Passphrase: func(_ context.Context, file string) (string, error) {
		if file != dir.Path(profile.WalletFile) {
			return "", fmt.Errorf("asked for the passphrase of %s", file)
		}
		b, err := os.ReadFile(os.Getenv("PASS"))
		return strings.TrimSpace(string(b)), err
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, line.Close()) }()
	ai := &http.Client{Transport: line}
	body := fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":%q}]}`, line.Ends[0].Host.Model, question)
	resp, err := ai.Post(client.BaseURL+"/chat/completions", "application/json", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	end := line.Ends[0]
	before := end.Channel.Left()
	_, err = fmt.Printf("%s %s\nspent %d of %d\n", resp.Status, answer, before-end.Left(), before)
	return err
}
