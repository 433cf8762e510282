package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/go-teep/teep/suit/describe"
)

// outFolder is a folder that files get into all at once, when it is known that none of them takes the place
// of something else. Until then they have names that begin with a dot.
type outFolder struct {
	dir       string
	overwrite bool
	files     []*outFile
}

// outFile implements describe.Scratch.
type outFile struct {
	*os.File
	name string // "" as long as nobody wants it
}

// Open implements describe.Scratch.
func (f *outFile) Open() (io.ReadCloser, error) { return os.Open(f.File.Name()) }

func (o *outFolder) create() (*outFile, error) {
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(o.dir, ".teep.*")
	if err != nil {
		return nil, err
	}
	file := &outFile{File: f}
	o.files = append(o.files, file)
	return file, nil
}

func (o *outFolder) scratch() (describe.Scratch, error) {
	f, err := o.create()
	if err != nil {
		return nil, err
	}
	return f, nil
}

// add makes a file of content.
func (o *outFolder) add(name string, content io.Reader) error {
	f, err := o.create()
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	return o.name(f, name)
}

// name says what a file will be called. Where there is something else of that name, it stays.
func (o *outFolder) name(f *outFile, name string) error {
	f.name = filepath.Join(o.dir, name)
	for _, other := range o.files {
		if other == f || other.name != f.name {
			continue
		}
		if same, err := sameContent(other.File.Name(), f.File.Name()); same || err != nil {
			f.name = ""
			return err
		}
		return fmt.Errorf("two files would be called %s: their URIs or components must differ in the name", f.name)
	}
	if o.overwrite {
		return nil
	}
	same, err := sameContent(f.name, f.File.Name())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil && !same {
		err = fmt.Errorf("%s is there already and is something else: choose another folder or another URI, or say --overwrite if nobody needs it any more", f.name)
	}
	return err
}

// takePayloads takes what has to be served, each under the last element of its URI. Without a folder only
// encrypted payloads are an error: their ciphertext exists nowhere else.
func (o *outFolder) takePayloads(payloads []describe.Payload) error {
	for _, p := range payloads {
		if o.dir == "" {
			if p.Encrypted {
				return fmt.Errorf("the payload for %s was encrypted and has to be kept: say where with --payloads DIR", p.URI)
			}
			continue
		}
		var err error
		if f, ok := p.Scratch.(*outFile); ok {
			err = o.name(f, filepath.Base(p.URI))
		} else {
			err = o.takePayload(p)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *outFolder) takePayload(p describe.Payload) error {
	content, err := p.Open()
	if err != nil {
		return err
	}
	defer content.Close()
	return o.add(filepath.Base(p.URI), content)
}

// takeInfos takes the encryption infos that exist nowhere else, each under the name of its component.
func (o *outFolder) takeInfos(infos []describe.EncryptionInfo) error {
	for _, i := range infos {
		if o.dir == "" {
			return fmt.Errorf("the encryption info of %v is kept out of the manifest and has to be kept: say where with --infos DIR", i.Component)
		}
		if err := o.add(infoName(i.Component), bytes.NewReader(i.Info)); err != nil {
			return err
		}
	}
	return nil
}

// publish gives the files their names.
func (o *outFolder) publish() error {
	for _, f := range o.files {
		if f.name == "" {
			continue // discard has it
		}
		if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
			return err
		}
		if err := os.Rename(f.File.Name(), f.name); err != nil {
			return err
		}
	}
	return nil
}

// discard removes what was not published: what was has its temporary name no more.
func (o *outFolder) discard() {
	for _, f := range o.files {
		_ = f.Close()
		_ = os.Remove(f.File.Name())
	}
}

// sameContent compares two files. An error is os.ErrNotExist if a is not there.
func sameContent(a, b string) (bool, error) {
	x, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer x.Close()
	y, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer y.Close()
	bufX, bufY := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errX := io.ReadFull(x, bufX)
		m, errY := io.ReadFull(y, bufY)
		switch {
		case !bytes.Equal(bufX[:n], bufY[:m]):
			return false, nil
		case ended(errX) && ended(errY):
			return true, nil
		case errX != nil && !ended(errX):
			return false, errX
		case errY != nil && !ended(errY):
			return false, errY
		}
	}
}

func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
