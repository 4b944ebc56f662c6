package wallet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/bombyx-network/bombyx/internal/strictjson"
)

// A wallet file is an armored age file (age-encryption.org/v1) with one scrypt
// recipient, so that `age -d` opens it too. Inside is one JSON object.

const (
	fileVersion = 1
	maxFile     = 64 << 10 // bytes
	// maxWork bounds the memory and time that a foreign file can cost: 2^20 is a few seconds and 1 GB.
	maxWork = 20
)

// workFactor is scrypt's log2(N) for new files: about a second and 256 MB.
var workFactor = 18

var (
	// ErrPassphrase is a passphrase that does not open the wallet file.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrFile is a wallet file that is damaged or none at all.
	ErrFile = errors.New("not a wallet file")
)

type fileContent struct {
	Version  int    `json:"version"`
	GlobalID int32  `json:"global_id"`
	Words    string `json:"words"`
}

// Seal encrypts the wallet with a passphrase.
func (w *Wallet) Seal(passphrase string) ([]byte, error) {
	if passphrase == "" {
		return nil, errors.New("wallet: an empty passphrase protects nothing: choose one")
	}
	plain, err := json.Marshal(fileContent{fileVersion, w.globalID, string(w.words)})
	if err != nil {
		return nil, fmt.Errorf("wallet: %w", err)
	}
	defer clear(plain)
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, fmt.Errorf("wallet: %w", err)
	}
	to.SetWorkFactor(workFactor)
	var buf bytes.Buffer
	a := armor.NewWriter(&buf)
	e, err := age.Encrypt(a, to)
	if err != nil {
		return nil, fmt.Errorf("wallet: %w", err)
	}
	if _, err = e.Write(plain); err == nil {
		err = e.Close()
	}
	if err == nil {
		err = a.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("wallet: %w", err)
	}
	return buf.Bytes(), nil
}

// Open decrypts what Seal made.
func Open(sealed []byte, passphrase string) (*Wallet, error) {
	c, err := decrypt(sealed, passphrase)
	if err != nil {
		return nil, err
	}
	return FromWords(c.Words, c.GlobalID)
}

func decrypt(sealed []byte, passphrase string) (*fileContent, error) {
	if len(sealed) > maxFile {
		return nil, fmt.Errorf("wallet: %w: %d bytes, at most %d", ErrFile, len(sealed), maxFile)
	}
	if passphrase == "" {
		return nil, fmt.Errorf("wallet: %w", ErrPassphrase)
	}
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, fmt.Errorf("wallet: %w", err)
	}
	id.SetMaxWorkFactor(maxWork)
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(sealed)), id)
	var noMatch *age.NoIdentityMatchError
	if errors.As(err, &noMatch) && slices.Equal(noMatch.StanzaTypes, []string{"scrypt"}) {
		return nil, fmt.Errorf("wallet: %w", ErrPassphrase)
	}
	if err != nil {
		return nil, fmt.Errorf("wallet: %w: %w", ErrFile, err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxFile))
	defer clear(plain)
	if err != nil {
		return nil, fmt.Errorf("wallet: %w: %w", ErrFile, err)
	}
	var c fileContent
	if strictjson.Decode(plain, maxFile, &c) != nil { // its error may quote the words
		return nil, fmt.Errorf("wallet: %w: its content is not a wallet's", ErrFile)
	}
	if c.Version != fileVersion {
		return nil, fmt.Errorf("wallet: %w: version %d, this program reads %d: get a newer release", ErrFile, c.Version, fileVersion)
	}
	return &c, nil
}

// Save writes the wallet to a new file that only the user can read. It never
// replaces a file: there may be money behind it.
func (w *Wallet) Save(path, passphrase string) error {
	sealed, err := w.Seal(passphrase)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("wallet: %s exists: move it away, or choose another name: %w", path, err)
	}
	if err != nil {
		return fmt.Errorf("wallet: %w", err)
	}
	if _, err = f.Write(sealed); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("wallet: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}

// Load reads a wallet file that Save wrote.
func Load(path, passphrase string) (*Wallet, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("wallet: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("wallet: %w", err)
	}
	w, err := Open(raw, passphrase)
	if err == nil {
		w.path = path
	}
	return w, err
}
