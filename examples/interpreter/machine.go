//go:build wasip1

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Bounds of one invocation. The TEE bounds memory and time as well.
const (
	maxSteps = 100_000
	maxStack = 1_000
	maxCalls = 100
)

// token is a word, or a text in quotes.
type token struct {
	text string
	line int
	word bool
}

// machine runs one script.
type machine struct {
	words        map[string][]token
	stack        []string
	input        string
	steps, calls int
}

// load reads the definitions of a script.
func load(source string) (*machine, error) {
	m := &machine{words: map[string][]token{}}
	tokens, err := scan(source)
	for err == nil && len(tokens) > 0 {
		tokens, err = m.define(tokens)
	}
	return m, err
}

func (m *machine) define(tokens []token) (rest []token, err error) {
	first := tokens[0]
	if !first.word || first.text != ":" || len(tokens) < 2 || !tokens[1].word {
		return nil, fmt.Errorf("line %d: a definition begins with : and a name", first.line)
	}
	for i := 2; i < len(tokens); i++ {
		if tokens[i].word && tokens[i].text == ";" {
			m.words[tokens[1].text] = tokens[2:i]
			return tokens[i+1:], nil
		}
	}
	return nil, fmt.Errorf("line %d: the definition of %s has no ;", first.line, tokens[1].text)
}

func scan(source string) ([]token, error) {
	var tokens []token
	for n, line := range strings.Split(source, "\n") {
		for line = strings.TrimSpace(line); line != "" && line[0] != '#'; line = strings.TrimSpace(line) {
			t := token{line: n + 1, word: line[0] != '"'}
			if t.word {
				end := strings.IndexAny(line, " \t\"")
				if end < 0 {
					end = len(line)
				}
				t.text, line = line[:end], line[end:]
			} else {
				text, rest, ok := strings.Cut(line[1:], `"`)
				if !ok {
					return nil, fmt.Errorf("line %d: a text without its end", n+1)
				}
				t.text, line = text, rest
			}
			tokens = append(tokens, t)
		}
	}
	return tokens, nil
}

// call runs a word of the script.
func (m *machine) call(name string) error {
	if m.calls++; m.calls > maxCalls {
		return fmt.Errorf("words call each other deeper than %d", maxCalls)
	}
	defer func() { m.calls-- }()
	body := m.words[name]
	for i := 0; i < len(body); i++ {
		t := body[i]
		if m.steps++; m.steps > maxSteps {
			return fmt.Errorf("line %d: more than %d steps", t.line, maxSteps)
		}
		var err error
		switch {
		case !t.word:
			m.push(t.text)
		case t.text == "if":
			var truth string
			if truth, err = m.pop(); err == nil && truth == "" {
				i, err = skip(body, i, true)
			}
		case t.text == "else": // the end of what was done
			i, err = skip(body, i, false)
		case t.text == "then":
		default:
			err = m.word(t.text)
		}
		if err == nil && len(m.stack) > maxStack {
			err = errors.New("the stack is full")
		}
		if err != nil {
			return fmt.Errorf("line %d: %s: %w", t.line, t.text, err)
		}
	}
	return nil
}

// skip finds the else, if that is wanted, or the then that belongs to the place.
func skip(body []token, from int, toElse bool) (int, error) {
	depth := 0
	for i := from + 1; i < len(body); i++ {
		switch t := body[i]; {
		case !t.word:
		case t.text == "if":
			depth++
		case t.text == "then" && depth > 0:
			depth--
		case t.text == "then", t.text == "else" && depth == 0 && toElse:
			return i, nil
		}
	}
	return 0, errors.New("there is no then")
}

func (m *machine) push(s string) { m.stack = append(m.stack, s) }

func (m *machine) pop() (string, error) {
	if len(m.stack) == 0 {
		return "", errors.New("the stack is empty")
	}
	top := m.stack[len(m.stack)-1]
	m.stack = m.stack[:len(m.stack)-1]
	return top, nil
}

func (m *machine) word(name string) error {
	if _, ok := m.words[name]; ok {
		return m.call(name)
	}
	if _, err := strconv.ParseInt(name, 10, 64); err == nil {
		m.push(name)
		return nil
	}
	if name == "input" {
		m.push(m.input)
		return nil
	}
	top, err := m.pop()
	if err != nil {
		return err
	}
	switch name {
	case "dup":
		m.push(top)
		m.push(top)
	case "drop":
	case "len":
		m.push(strconv.Itoa(len(top)))
	case "load":
		m.push(read("/data/" + file(top)))
	case "data":
		m.push(read("/personalization/" + file(top)))
	case "fail":
		return errors.New(top)
	default:
		return m.pair(name, top)
	}
	return nil
}

// pair runs a word that takes two.
func (m *machine) pair(name, b string) error {
	a, err := m.pop()
	if err != nil {
		return err
	}
	switch name {
	case "cat":
		m.push(a + b)
	case "swap":
		m.push(b)
		m.push(a)
	case "over":
		m.push(a)
		m.push(b)
		m.push(a)
	case "=":
		m.push(truth(a == b))
	case "store":
		return os.WriteFile("/data/"+file(b), []byte(a), 0o600)
	default:
		return m.arithmetic(name, a, b)
	}
	return nil
}

func (m *machine) arithmetic(name, a, b string) error {
	x, err := number(a)
	if err != nil {
		return err
	}
	y, err := number(b)
	if err != nil {
		return err
	}
	switch name {
	case "+":
		m.push(strconv.FormatInt(x+y, 10))
	case "-":
		m.push(strconv.FormatInt(x-y, 10))
	case "*":
		m.push(strconv.FormatInt(x*y, 10))
	case "/":
		if y == 0 {
			return errors.New("division by zero")
		}
		m.push(strconv.FormatInt(x/y, 10))
	case "<":
		m.push(truth(x < y))
	case ">":
		m.push(truth(x > y))
	default:
		return errors.New("there is no such word")
	}
	return nil
}

func number(s string) (int64, error) {
	if s = strings.TrimSpace(s); s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	return n, nil
}

func truth(b bool) string {
	if b {
		return "true"
	}
	return ""
}

// file keeps a name from leading elsewhere.
func file(name string) string { return strings.ReplaceAll(name, "..", "_") }

// read returns what is not there as empty.
func read(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return string(b)
}
