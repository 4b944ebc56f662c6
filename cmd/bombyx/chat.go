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
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/bombyx-network/bombyx/client"
	"github.com/bombyx-network/bombyx/internal/apierror"
	"github.com/bombyx-network/bombyx/internal/cli"
	"github.com/bombyx-network/bombyx/internal/receipt"
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
refused, 2 usage, 4 host unreachable, 5 not enough money, 130 interrupted.`,
		Example: `  bombyx chat "What is remote attestation?"
  git diff | bombyx chat -m qwen3-8b --system "Review this patch."
  bombyx chat --host adnl:3b6a... "The same, of a host known by its ADNL id alone."
  bombyx chat`}
	o.line.flags(h, c)
	f := c.Flags()
	f.StringVarP(&o.model, "model", "m", "", "model (default that of the first host)")
	c.RegisterFlagCompletionFunc("model", h.completeModel)
	f.StringVar(&o.system, "system", "", "system prompt")
	f.Uint64Var(&o.maxTokens, "max-tokens", 0, "longest answer in tokens (default the model's limit)")
	f.Float64Var(&o.temperature, "temperature", 0, "sampling temperature, 0 to 2 (default the model's)")
	f.BoolVar(&o.json, "json", false, "print events as JSON, one a line")
	c.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if !cmd.Flags().Changed("temperature") {
			o.temperature = -1
		} else if !(o.temperature >= 0 && o.temperature <= 2) {
			return cli.Errorf(cli.Usage, "give 0 to 2", "--temperature %v is out of range", o.temperature)
		}
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
		if err := isText(prompt, o.system); err != nil {
			return err
		}
		l, err := h.dial(cmd, o.line)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.close()) }()
		s := &chatSession{cmd: cmd, line: l, opts: &o}
		if o.model == "" {
			o.model = l.Ends[0].Host.Model
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

// isText refuses what JSON cannot carry: it would reach the model as something else.
func isText(all ...string) error {
	for _, s := range all {
		if !utf8.ValidString(s) {
			return cli.Errorf(cli.Usage, "convert it first, as in iconv -t UTF-8", "the prompt is not UTF-8 text")
		}
	}
	return nil
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
	fmt.Fprintf(s.cmd.ErrOrStderr(), "%s on %s; an empty line ends the conversation\n", s.opts.model, s.line.Ends[0].Host.URL)
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
			s.complain(err)
		}
	}
}

// complain shows an error that does not end the conversation.
func (s *chatSession) complain(err error) {
	fmt.Fprintf(s.cmd.ErrOrStderr(), "bombyx: error: %s\n", cli.Printable(err.Error()))
	var e *cli.Error
	if errors.As(err, &e) && e.Hint != "" {
		fmt.Fprintf(s.cmd.ErrOrStderr(), "bombyx: hint: %s\n", cli.Printable(e.Hint))
	}
}

// ask is try, and knows when it was the user who ended it.
func (s *chatSession) ask(ctx context.Context, prompt string) error {
	err := isText(prompt)
	if err == nil {
		err = s.try(ctx, prompt)
	}
	if err != nil && ctx.Err() != nil {
		return cli.Errorf(cli.Interrupted, "the answer is not complete; you pay for what came of it", "interrupted")
	}
	return err
}

// try sends one question with what was said before and shows the answer.
func (s *chatSession) try(ctx context.Context, prompt string) error {
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
		if text == "" {
			return nil
		}
		answer.WriteString(text)
		if s.opts.json {
			return printJSON(s.cmd.OutOrStdout(), delta{"delta", text})
		}
		_, err := io.WriteString(s.cmd.OutOrStdout(), cli.Printable(text))
		return err
	}
	s.line.hush()
	defer func() {
		if !s.opts.json {
			fmt.Fprintln(s.cmd.OutOrStdout())
		}
		s.line.unhush()
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
			return answer.String(), cli.Errorf(cli.Refused, "", "the engine failed: %s", event.Error.Message)
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

// Events of --json.
type (
	delta struct {
		Type string `json:"type"` // "delta"
		Text string `json:"text"`
	}
	done struct {
		Type       string         `json:"type"` // "done"
		Verified   bool           `json:"verified"`
		Finish     receipt.Finish `json:"finish"`
		Prompt     uint64         `json:"prompt_tokens"`
		Completion uint64         `json:"completion_tokens"`
		Cost       uint64         `json:"cost"` // nanogram, as is left
		Left       uint64         `json:"left"`
		Receipt    string         `json:"receipt_id"`
		Evidence   receipt.Digest `json:"evidence"`
		Host       string         `json:"host"`
	}
)

// done sums the answer up.
func (s *chatSession) done() error {
	result, r := s.line.take()
	if r == nil { // the library returns io.EOF only after a valid receipt
		return cli.Errorf(cli.Refused, "do not rely on the answer", "the answer came without a receipt")
	}
	end := s.line.end(r.Channel)
	left := end.Left()
	if s.opts.json {
		if err := printJSON(s.cmd.OutOrStdout(), done{"done", true, r.Finish, r.Usage.Prompt, r.Usage.Completion, r.Cost, left, r.ID, r.Evidence, end.Host.URL}); err != nil {
			return err
		}
	} else {
		verdict := ""
		if result != nil {
			verdict = fmt.Sprintf(" under policy %q", result.Policy)
		}
		if len(s.line.Ends) > 1 {
			verdict += ", from " + end.Host.URL
		}
		fmt.Fprintf(s.cmd.ErrOrStderr(), "%d + %d tokens, %s GRAM, %s GRAM left; verified%s\n", r.Usage.Prompt, r.Usage.Completion, ton.Nano(r.Cost), ton.Nano(left), verdict)
	}
	if r.Finish == "out-of-credit" {
		return cli.Errorf(cli.Money, "bombyx channel top-up AMOUNT", "the answer ends early: the channel could not pay for more")
	}
	return nil
}
