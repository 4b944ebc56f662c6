package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/ton"
)

const maxPrompt = 4 << 20 // bytes

type chatOptions struct {
	line          lineOptions
	model, system string
	maxTokens     uint64
	temperature   float64
	json          bool
}

func chatCommand(h *home) *cobra.Command {
	var o chatOptions
	c := &cobra.Command{Use: "chat [PROMPT]", Short: "Ask a model; the answer streams to the terminal", Args: cobra.ArbitraryArgs,
		Long: `chat appraises the enclave's evidence under policy.json, seals the prompt to it, pays while
the answer streams, and checks the receipt. Nothing is sent before the verdict. The prompt
is the argument, or standard input; on a terminal without either it is a conversation.

Collateral in the home directory is used if there is any; otherwise the host is asked for
it, which is safe: all of it is signed, and none of it is trusted unsigned.

The answer goes to standard output, everything else to standard error. --json prints
events, one a line: {"type":"attested"}, {"type":"delta","text":...} and, when the answer
is complete and its receipt holds, {"type":"done"}.

Exit codes: 0 a complete answer with a valid receipt, 1 evidence, answer or receipt
refused, 2 usage, 4 host unreachable, 5 not enough money.`,
		Example: `  bombyx chat "What is remote attestation?"
  git diff | bombyx chat -m qwen3-8b --system "Review this patch."
  bombyx chat --host adnl:3b6a... "The same, of a host known by its ADNL id alone."
  bombyx chat`}
	o.line.flags(h, c)
	f := c.Flags()
	f.StringVarP(&o.model, "model", "m", "", "model (default the one in host.json)")
	f.StringVar(&o.system, "system", "", "system prompt")
	f.Uint64Var(&o.maxTokens, "max-tokens", 0, "longest answer in tokens (default the model's limit)")
	f.Float64Var(&o.temperature, "temperature", -1, "sampling temperature (default the model's)")
	f.BoolVar(&o.json, "json", false, "print events as JSON, one a line")
	c.RunE = func(cmd *cobra.Command, args []string) (err error) {
		prompt, conversation := strings.Join(args, " "), false
		if len(args) == 0 {
			if conversation = isTerminal(os.Stdin) && !o.json; !conversation {
				b, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxPrompt+1))
				if err != nil {
					return err
				}
				if len(b) > maxPrompt {
					return cli.Errorf(cli.Usage, "shorten it", "the prompt is longer than %d bytes", maxPrompt)
				}
				prompt = string(b)
			}
		}
		if !conversation && strings.TrimSpace(prompt) == "" {
			return cli.Errorf(cli.Usage, `bombyx chat "a question", or put it on standard input`, "the prompt is empty")
		}
		l, err := h.dial(cmd, o.line)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.close()) }()
		s := &chatSession{cmd: cmd, line: l, opts: &o}
		if o.model == "" {
			o.model = l.host.Model
		}
		if o.system != "" {
			s.messages = append(s.messages, message{"system", o.system})
		}
		if !conversation {
			return s.ask(cmd.Context(), prompt)
		}
		return s.converse()
	}
	return c
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type chatSession struct {
	cmd      *cobra.Command
	line     *line
	opts     *chatOptions
	messages []message
}

// converse asks until the input ends. A failed question does not end it.
func (s *chatSession) converse() error {
	fmt.Fprintf(s.cmd.ErrOrStderr(), "%s on %s; an empty line ends the conversation\n", s.opts.model, s.line.host.URL)
	for {
		fmt.Fprint(s.cmd.ErrOrStderr(), "> ")
		prompt, err := readLine(s.cmd.Context(), os.Stdin)
		if err == io.EOF || err == nil && strings.TrimSpace(prompt) == "" {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.ask(s.cmd.Context(), prompt); err != nil {
			if s.cmd.Context().Err() != nil {
				return err
			}
			fmt.Fprintf(s.cmd.ErrOrStderr(), "bombyx: error: %v\n", err)
		}
	}
}

// ask sends one question with what was said before and shows the answer.
func (s *chatSession) ask(ctx context.Context, prompt string) error {
	messages := append(s.messages[:len(s.messages):len(s.messages)], message{"user", prompt})
	body := map[string]any{"model": s.opts.model, "stream": true, "messages": messages}
	if s.opts.maxTokens > 0 {
		body["max_tokens"] = s.opts.maxTokens
	}
	if s.opts.temperature >= 0 {
		body["temperature"] = s.opts.temperature
	}
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, client.BaseURL+"/chat/completions", bytes.NewReader(b))
	if err != nil {
		return err
	}
	resp, err := s.line.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fault(apierror.Read(resp))
	}
	if err := s.attested(); err != nil {
		return err
	}
	answer, err := s.stream(resp.Body)
	if err != nil {
		return err
	}
	s.messages = append(messages, message{"assistant", answer})
	return s.done()
}

func (s *chatSession) attested() error {
	r, _ := s.line.take()
	if !s.opts.json || r == nil {
		return nil
	}
	return printJSON(s.cmd.OutOrStdout(), struct {
		Type       string    `json:"type"`
		Kind       string    `json:"kind"`
		Policy     string    `json:"policy"`
		Checks     int       `json:"checks"`
		ValidUntil time.Time `json:"valid_until"`
	}{"attested", string(r.Kind), r.Policy, len(r.Checks), r.ValidUntil.UTC()})
}

// stream shows an answer as it comes and returns it whole.
func (s *chatSession) stream(body io.Reader) (string, error) {
	var answer strings.Builder
	show := func(text string) error {
		answer.WriteString(text)
		if s.opts.json {
			return printJSON(s.cmd.OutOrStdout(), map[string]string{"type": "delta", "text": text})
		}
		_, err := io.WriteString(s.cmd.OutOrStdout(), printable(text))
		return err
	}
	defer func() {
		if !s.opts.json {
			fmt.Fprintln(s.cmd.OutOrStdout())
		}
	}()
	in := lines(body)
	for in.Scan() {
		data, ok := strings.CutPrefix(in.Text(), "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		var event struct {
			Choices []struct {
				Delta struct {
					Content string `json:"content"`
				} `json:"delta"`
			} `json:"choices"`
			Error *struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			return answer.String(), cli.Errorf(cli.Refused, "report it to the model's operator", "the enclave sent an event that is no JSON")
		}
		if event.Error != nil {
			return answer.String(), cli.Errorf(cli.Refused, "", "the engine failed: %s", printable(event.Error.Message))
		}
		for _, c := range event.Choices {
			if err := show(c.Delta.Content); err != nil {
				return answer.String(), err
			}
		}
	}
	err := in.Err()
	var f *client.Error
	switch {
	case err == nil:
		return answer.String(), nil
	case errors.As(err, &f):
		return answer.String(), fault(f)
	case errors.Is(err, client.ErrReceipt):
		return answer.String(), cli.Errorf(cli.Refused, "do not rely on the answer; use another host", "%w", err)
	}
	return answer.String(), cli.Errorf(cli.Refused, "do not rely on the answer: it is not complete", "%w", err)
}

// printable keeps an answer from steering the terminal; line breaks and tabs may pass.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r >= 0x20 && r < 0x7f || r >= 0xa0 {
			return r
		}
		return '\ufffd'
	}, s)
}

// done sums the answer up.
func (s *chatSession) done() error {
	result, r := s.line.take()
	if r == nil { // the library returns io.EOF only after a valid receipt
		return cli.Errorf(cli.Refused, "do not rely on the answer", "the answer came without a receipt")
	}
	c := s.line.channel
	c.Progress = s.line.State()
	if s.opts.json {
		if err := printJSON(s.cmd.OutOrStdout(), map[string]any{"type": "done", "verified": true, "finish": r.Finish, "prompt_tokens": r.Usage.Prompt,
			"completion_tokens": r.Usage.Completion, "cost": r.Cost, "left": left(c), "receipt_id": r.ID, "evidence": r.Evidence}); err != nil {
			return err
		}
	} else {
		verdict := ""
		if result != nil {
			verdict = fmt.Sprintf(" under policy %q", result.Policy)
		}
		fmt.Fprintf(s.cmd.ErrOrStderr(), "%d + %d tokens, %s GRAM, %s GRAM left; verified%s\n", r.Usage.Prompt, r.Usage.Completion, ton.Nano(r.Cost), ton.Nano(left(c)), verdict)
	}
	if r.Finish == "out-of-credit" {
		return cli.Errorf(cli.Money, "bombyx channel top-up AMOUNT", "the answer ends early: the channel could not pay for more")
	}
	return nil
}
