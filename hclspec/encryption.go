package hclspec

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/zclconf/go-cty/cty"
)

// passphrase stands among recipients for whoever knows the passphrase.
const passphrase = "passphrase"

// encryptionBlock says who can read a repository and whom its readers believe.
func encryptionBlock() block {
	return block{name: "encryption", single: true, attributes: []attribute{
		{name: "data_recipients", kind: recipients(), required: true},
		{name: "meta_recipients", kind: recipients(), otherwise: "only who reads data"},
		{name: "trusted_writers", kind: listOf(matching("", checkWriter), "list of writers", refusal{"not `ed25519:` and 43 letters", `["ed25519:x"]`}, refusal{"twice the same", `["` + writerExample + `", "` + writerExample + `"]`}), required: true},
		{name: "signing_key", kind: directory(), otherwise: "nothing can be written from here"},
		{name: "identity_files", kind: listOf(directory(), "list of absolute paths", refusal{"not absolute and clean", `["key.txt"]`}, refusal{"twice the same", `["/k", "/k"]`}), otherwise: "no file"},
		{name: "identity_command", kind: command(), otherwise: "no command"},
		{name: "passphrase_file", kind: directory(), otherwise: "no file"},
		{name: "passphrase_command", kind: command(), otherwise: "no command"},
	}, refused: []string{
		"no `data_recipients`, or no `trusted_writers`", "nothing of `identity_files`, `identity_command`, `passphrase_file` and `passphrase_command`",
		"`\"passphrase\"` among the recipients and no passphrase, or the other way round", "`passphrase_file` beside `passphrase_command`",
	}}
}

const writerExample = "ed25519:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func recipients() kind {
	return listOf(matching("", checkRecipient), "list of age recipients, `\"passphrase\"` among them", refusal{"not a recipient", `["age1x"]`}, refusal{"a secret key", `["AGE-SECRET-KEY-1"]`}, refusal{"twice the same", `["passphrase", "passphrase"]`})
}

func checkRecipient(s string) error {
	if strings.Contains(strings.ToUpper(s), "SECRET-KEY") {
		return mistake{"A secret key stands where the public half belongs.", "Write the line that begins with age1; take the secret key out, and replace it if anybody else has seen this file."}
	}
	if s == passphrase {
		return nil
	}
	parsed, err := age.ParseRecipients(strings.NewReader(s))
	if err != nil || len(parsed) != 1 || strings.ContainsAny(s, "#\r\n ") {
		return mistake{quote(s) + " is not a recipient of age.", `A recipient begins with age1: pgkeep key generate shows it. For a passphrase write "passphrase".`}
	}
	return nil
}

func checkWriter(s string) error {
	if strings.Contains(strings.ToUpper(s), "WRITER-KEY") {
		return mistake{"A secret key stands where the public half belongs.", "Write the line that begins with ed25519:; take the secret key out, and replace it if anybody else has seen this file."}
	}
	text, ok := strings.CutPrefix(s, "ed25519:")
	if b, err := base64.RawURLEncoding.Strict().DecodeString(text); !ok || err != nil || len(b) != 32 || strings.ContainsAny(s, "\r\n") {
		return mistake{quote(s) + " is not the public half of a writer key.", "One is ed25519: and 43 letters: pgkeep key generate shows it."}
	}
	return nil
}

// command reads a program with its arguments; it is never given to a shell.
func command() kind {
	read := func(v cty.Value, _ *time.Location) (any, error) {
		t := v.Type()
		if !t.IsTupleType() && !t.IsListType() {
			return nil, mistake{"A list of a program and its arguments is wanted.", `Write ["/usr/bin/program", "argument"]: no shell reads it.`}
		}
		var out []string
		for _, item := range v.AsValueSlice() {
			s, err := asText(item)
			if err != nil || strings.ContainsRune(s, 0) {
				return nil, mistake{"The list holds something else than text.", ""}
			}
			out = append(out, s)
		}
		if len(out) == 0 || checkPath(out[0]) != nil {
			return nil, mistake{"The program is not an absolute path.", `Write ["/usr/bin/program", "argument"]: no shell reads it, and no PATH is searched.`}
		}
		return out, nil
	}
	return kind{name: "list of a program and its arguments", shape: shapeList, item: &kind{name: "text"}, read: read, refused: []refusal{
		{"empty", `[]`}, {"the program is not an absolute path", `["vault"]`}, {"text: no shell reads it", `"vault kv get key"`},
	}}
}

// encryption gives what an encryption block says; nil: there is none.
func (l *loader) encryption(d *decoded) *Encryption {
	if d == nil || !d.present || d.broken {
		return nil
	}
	e := &Encryption{
		DataRecipients: get[[]string](d, "data_recipients"), MetaRecipients: get[[]string](d, "meta_recipients"),
		TrustedWriters: get[[]string](d, "trusted_writers"), SigningKey: text0(d, "signing_key"),
		IdentityFiles: get[[]string](d, "identity_files"), IdentityCommand: get[[]string](d, "identity_command"),
		PassphraseFile: text0(d, "passphrase_file"), PassphraseCommand: get[[]string](d, "passphrase_command"),
	}
	phrase := e.PassphraseFile != "" || len(e.PassphraseCommand) > 0
	wanted := slices.Contains(e.DataRecipients, passphrase) || slices.Contains(e.MetaRecipients, passphrase)
	refuse := func(what, hint string) {
		l.refuse("Invalid encryption", mistake{what, hint}, d.at)
		d.broken = true
	}
	switch {
	case len(e.DataRecipients) == 0:
		refuse("Nobody could read what is written: data_recipients is empty.", "pgkeep key generate makes a key.")
	case len(e.TrustedWriters) == 0:
		refuse("Nobody would be believed: trusted_writers is empty.", "pgkeep key generate --writer makes a writer key, whose public half belongs there.")
	case e.PassphraseFile != "" && len(e.PassphraseCommand) > 0:
		refuse("passphrase_file and passphrase_command both say where the passphrase comes from.", "Keep one.")
	case wanted && !phrase:
		refuse(`"passphrase" is among the recipients, and nothing says where it comes from.`, "Write passphrase_file or passphrase_command.")
	case phrase && !wanted:
		refuse(`A passphrase is given, and "passphrase" is not among the recipients.`, `Write "passphrase" into data_recipients or meta_recipients, or take it out.`)
	case !phrase && len(e.IdentityFiles) == 0 && len(e.IdentityCommand) == 0:
		refuse("Nothing says with which key the repository is read here: without its metadata nothing can be planned.", "Write identity_files or identity_command; a backup host has the key of one of the meta_recipients.")
	}
	return e
}

// ReadOnly gives what reading takes, without the signing key, which the owner of restored files need not see; nil for nil.
func (e *Encryption) ReadOnly() *Encryption {
	if e == nil {
		return nil
	}
	out := *e
	out.SigningKey = ""
	return &out
}
