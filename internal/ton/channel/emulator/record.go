package emulator

import (
	"encoding/hex"
	"encoding/json"
	"os"

	"github.com/xssnick/tonutils-go/tvm/cell"
)

// recorded is a line of a record: a message delivered from outside, and what followed.
type recorded struct {
	Chain    int        `json:"chain"` // which of the chains of this process
	Test     string     `json:"test"`
	Now      uint32     `json:"now"`
	Message  []byte     `json:"message"` // bag of cells
	Accepted bool       `json:"accepted"`
	Txs      []recordTx `json:"txs"`
	Config   []byte     `json:"config,omitempty"` // bag of cells, on a chain's first line
}

type recordTx struct {
	ExitCode int64    `json:"exitCode"`
	Skipped  bool     `json:"skipped"`
	Success  bool     `json:"success"`
	Gas      uint64   `json:"gas"`
	Fees     uint64   `json:"fees"`
	Forward  uint64   `json:"forward"`
	Out      []uint64 `json:"out"`  // values
	Data     string   `json:"data"` // hash of the account's data afterwards
}

var chains int

// RecordTo appends what happens on the chain from now on to a file, one line of JSON for each message, so that another TVM
// can run the same and be compared (channel/contract/replay.test.mjs). With an empty path it does nothing. Not for concurrent chains.
func (c *Chain) RecordTo(path, test string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	chains++
	config, chain := c.config.Root().ToBOC(), chains
	c.record = func(message *cell.Cell, txs []Tx, err error) {
		line := recorded{Chain: chain, Test: test, Now: c.Now, Message: message.ToBOC(), Accepted: err == nil, Config: config}
		config = nil
		for _, tx := range txs {
			x := recordTx{tx.ExitCode, tx.Skipped, tx.Success, tx.Gas, tx.Fees, tx.Forward, []uint64{}, ""}
			for _, m := range tx.Out {
				x.Out = append(x.Out, m.Amount.Nano().Uint64())
			}
			if acc := c.Account(tx.Account); acc != nil && acc.StateInit != nil && acc.StateInit.Data != nil {
				x.Data = hex.EncodeToString(acc.StateInit.Data.Hash())
			}
			line.Txs = append(line.Txs, x)
		}
		if err := appendLine(path, line); err != nil {
			panic("emulator: record: " + err.Error()) // only ever in a test run that asked for it
		}
	}
	return nil
}

func appendLine(path string, line recorded) error {
	b, err := json.Marshal(line)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err = f.Write(append(b, '\n')); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
