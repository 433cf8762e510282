package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-teep/teep/cose"
	"github.com/go-teep/teep/cose/keyfile"
	"github.com/go-teep/teep/internal/program"
	"github.com/go-teep/teep/tam"
	"github.com/go-teep/teep/tam/audit"
)

// defaultOverlap is how long a previous signing key counts.
const defaultOverlap = 90 * 24 * time.Hour

func keysCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "keys",
		Short: "Rotate the TAM's keys without downtime",
		Long: `Rotates the keys that sign the TAM's messages and those that agents encrypt to, beside the running service, which reads
them again within a second. The first rotation writes the key ring, keys.yaml beside tam.yaml; from then on it counts in
place of signing-keys and decryption-keys. Replicas need the same ring and the same key files: copy the files first, then the ring.

  teep-tam keys next     makes keys that devices can be told of before they are used ('teep-tam anchors' prints them)
  teep-tam keys rotate   makes them current; the keys of before count on as previous ones
  teep-tam keys retire   ends a previous key, once no device needs it

Devices that know an old or a new key are served all the while. docs/operations/keys.md is the runbook.`,
		Example: `  teep-tam keys next --config tam/tam.yaml
  teep-tam keys rotate --config tam/tam.yaml --overlap 2160h
  teep-tam keys list --config tam/tam.yaml --devices
  teep-tam keys retire --config tam/tam.yaml 3f9a01`,
	}
	c.AddCommand(keysList(), keysNext(), keysRotate(), keysRetire(), keysEncrypt())
	return c
}

// ringEdit is a ring that a command works on, with its keys opened.
type ringEdit struct {
	config *configuration
	ring   *keyRing
	now    time.Time
	// added are the names of keys that became next ones, made the paths of the files that were made for that.
	added, made []string
}

// editRing reads the ring, or what tam.yaml amounts to.
func editRing(path string) (*ringEdit, error) {
	c, err := load(path)
	if err != nil {
		return nil, err
	}
	ring, err := readRing(c.Keys)
	if err == nil && ring == nil {
		ring = c.listedRing()
	}
	return &ringEdit{config: c, ring: ring, now: time.Now().UTC().Truncate(time.Second)}, err
}

// open opens a key of the ring.
func (e *ringEdit) open(k *ringKey) (*keyfile.Key, error) {
	keys, err := e.config.openKeys([]string{keyName(e.config.Keys, k.Key)})
	if err != nil {
		return nil, err
	}
	return keys[0], nil
}

// lists are the two halves of the ring, in order.
func (e *ringEdit) lists() []*[]ringKey { return []*[]ringKey{&e.ring.Signing, &e.ring.Decryption} }

// addNext gives each current key that has no successor one: one of given, by algorithm, or a new file.
func (e *ringEdit) addNext(given []string) error {
	offered := map[cose.Algorithm]string{}
	for _, name := range given {
		keys, err := e.config.openKeys([]string{keyName(e.config.path, name)})
		if err != nil {
			return err
		}
		offered[keys[0].Public().Alg()] = e.config.inRing(keyName(e.config.path, name))
	}
	for half, list := range e.lists() {
		algs := map[cose.Algorithm]bool{}
		var current []cose.Algorithm
		for i := range *list {
			k, err := e.open(&(*list)[i])
			if err != nil {
				return err
			}
			alg := k.Public().Alg()
			if half == 1 {
				alg = cose.AlgECDHESA128KW // its curve would also sign
			}
			switch (*list)[i].Role {
			case roleNext:
				algs[alg] = true
			case roleCurrent:
				current = append(current, alg)
			}
		}
		for _, alg := range current {
			if algs[alg] {
				continue
			}
			name, ok := offered[alg]
			delete(offered, alg)
			if !ok {
				var err error
				if name, err = e.newKey(alg); err != nil {
					return err
				}
			}
			*list = append(*list, ringKey{Key: name, Role: roleNext, NotBefore: time.Time{}})
			e.added = append(e.added, name)
			algs[alg] = true
		}
	}
	for alg, name := range offered {
		return &program.Usage{Err: fmt.Errorf("--key %s is for %v: there is no current key of that algorithm without a next one", name, alg)}
	}
	return nil
}

// newKey makes a key file beside the others, encrypted where the configuration has a secret.
func (e *ringEdit) newKey(alg cose.Algorithm) (name string, err error) {
	key, err := cose.GenerateKey(rand.Reader, alg)
	if err != nil {
		return "", err
	}
	data, err := key.MarshalPEM()
	if err != nil {
		return "", err
	}
	opener, err := e.config.opened()
	if err != nil {
		return "", err
	}
	word := strings.ToLower(alg.String())
	if alg == cose.AlgECDHESA128KW {
		word = "encryption"
	}
	name = fmt.Sprintf("keys/%s-%s-%x.pem", word, e.now.Format("20060102"), key.Thumbprint()[:4])
	if opener.Secret != nil {
		name += ".age"
		if data, err = opener.Secret.Encrypt(data); err != nil {
			return "", err
		}
	}
	path := keyName(e.config.Keys, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	if err := writeNew(path, data, 0o600); err != nil {
		return "", err
	}
	e.made = append(e.made, path)
	return name, nil
}

// abandon takes away key files that were made for a ring that is not written after all.
func (e *ringEdit) abandon(err error) error {
	for _, path := range e.made {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// rotate makes next keys current, and current ones previous.
func (e *ringEdit) rotate(overlap time.Duration) {
	for half, list := range e.lists() {
		for i := range *list {
			k := &(*list)[i]
			switch k.Role {
			case roleCurrent:
				k.Role = rolePrevious
				if half == 0 {
					// Deposits need a decryption key for as long as they are there: retiring says so.
					k.NotAfter = e.now.Add(overlap)
				}
			case roleNext:
				k.Role, k.NotBefore = roleCurrent, time.Time{}
			}
		}
	}
}

// of lists the keys of a role by name.
func (e *ringEdit) of(r role) string {
	return strings.Join(slices.Concat(names(e.ring.Signing, e.now, r), names(e.ring.Decryption, e.now, r)), " ")
}

// recordAudit notes what the command line does with keys.
func recordAudit(ctx context.Context, c *configuration, action audit.Action, target, detail string) error {
	store, err := openStore(ctx, c)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.AddAuditEntry(audit.WithActor(ctx, commandLine()), action, target, detail); err != nil {
		return fmt.Errorf("nothing was changed, because it could not be entered into the audit log: %w", err)
	}
	return nil
}

// save writes the ring after a look whether a TAM could run with it, and after entering that into the audit log.
func (e *ringEdit) save(ctx context.Context, action audit.Action, target, detail string) error {
	c := *e.config
	for _, half := range []struct {
		list []ringKey
		into *[]string
	}{{e.ring.Signing, &c.SignKeys}, {e.ring.Decryption, &c.DecryptKey}} {
		*half.into = nil
		for _, name := range names(half.list, e.now, roles...) {
			*half.into = append(*half.into, keyName(c.Keys, name))
		}
	}
	ring, err := c.ring()
	if err != nil {
		return err
	}
	if err := tam.CheckKeys(ring); err != nil {
		return err
	}
	if err := recordAudit(ctx, e.config, action, target, detail); err != nil {
		return err
	}
	return e.ring.write(c.Keys)
}

func keysNext() *cobra.Command {
	var path string
	var given []string
	c := &cobra.Command{
		Use: "next --config FILE", Short: "Make the keys that the next rotation makes current, for devices to know beforehand",
		Long: `Gives each current key a successor: a new file beside the others (encrypted where key-secret is configured), or one that --key
names. They count at once, and 'teep-tam anchors' prints them beside the current ones.`,
		Example: `  teep-tam keys next --config tam/tam.yaml
  teep-tam keys next --config tam/tam.yaml --key 'pkcs11:token=tam;object=2027?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/etc/tam/pin'`,
		Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := editRing(path)
			if err != nil {
				return err
			}
			err = e.addNext(given)
			if err == nil && len(e.added) > 0 {
				err = e.save(cmd.Context(), audit.ActionKeysNext, strings.Join(e.added, " "), "beside the current "+e.of(roleCurrent))
			}
			if err != nil {
				return e.abandon(err)
			}
			return e.print(cmd, nil)
		},
	}
	c.Flags().StringArrayVar(&given, "key", nil, "key file or PKCS #11 URI that is to be the next one of its algorithm; may be repeated")
	return configFlag(c, &path)
}

func keysRotate() *cobra.Command {
	var path string
	var overlap time.Duration
	c := &cobra.Command{
		Use: "rotate --config FILE", Short: "Make the next keys current; those of before count on as previous ones",
		Long: `Makes the next keys current, and makes them first where there are none. Signing keys of before count for --overlap longer, decryption keys
until they are retired. Devices that know an old or a new key are served all the while.`,
		Example: `  teep-tam keys rotate --config tam/tam.yaml --overlap 2160h`,
		Args:    program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if overlap <= 0 {
				return &program.Usage{Err: errors.New("--overlap has to be longer than nothing: devices that know the old keys alone would be lost")}
			}
			e, err := editRing(path)
			if err != nil {
				return err
			}
			if err := e.addNext(nil); err != nil {
				return e.abandon(err)
			}
			e.rotate(overlap)
			if err := e.save(cmd.Context(), audit.ActionKeysRotate, e.of(roleCurrent), fmt.Sprintf("those of before count for %v: %s", overlap, e.of(rolePrevious))); err != nil {
				return e.abandon(err)
			}
			return e.print(cmd, nil)
		},
	}
	c.Flags().DurationVar(&overlap, "overlap", defaultOverlap, "how long the signing keys of before count")
	return configFlag(c, &path)
}

func keysList() *cobra.Command {
	var path string
	var devices bool
	c := &cobra.Command{
		Use: "list --config FILE", Short: "List the keys, their roles and until when they count",
		Example: "  teep-tam keys list --config tam/tam.yaml --devices", Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e, err := editRing(path)
			if err != nil {
				return err
			}
			var use map[string]tam.KeyUse
			if devices {
				if use, err = e.use(cmd); err != nil {
					return err
				}
			}
			return e.print(cmd, use)
		},
	}
	c.Flags().BoolVar(&devices, "devices", false, "count the devices that last accepted each key; reads all devices")
	return configFlag(c, &path)
}

// use counts devices by the key that they last accepted.
func (e *ringEdit) use(cmd *cobra.Command) (map[string]tam.KeyUse, error) {
	store, err := openStore(cmd.Context(), e.config)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	return tam.CountKeyUse(cmd.Context(), store)
}

func (e *ringEdit) print(cmd *cobra.Command, use map[string]tam.KeyUse) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
	fmt.Fprint(w, "USE\tALGORITHM\tROLE\tCOUNTS UNTIL\tTHUMBPRINT\tKEY")
	if use != nil {
		fmt.Fprint(w, "\tDEVICES\tLAST")
	}
	fmt.Fprintln(w)
	for half, list := range e.lists() {
		for i := range *list {
			k := &(*list)[i]
			opened, err := e.open(k)
			if err != nil {
				return err
			}
			until := "retired"
			switch {
			case !k.counts(e.now):
				until = "not now"
			case k.NotAfter.IsZero():
				until = "-"
			default:
				until = k.NotAfter.Format(time.RFC3339)
			}
			what, alg := "signing", opened.Public().Alg()
			if half == 1 {
				what, alg = "decryption", cose.AlgECDHESA128KW
			}
			fmt.Fprintf(w, "%s\t%v\t%s\t%s\t%x\t%s", what, alg, k.Role, until, opened.Public().Thumbprint(), k.Key)
			if use != nil && half == 0 {
				u := use[string(opened.Public().Thumbprint())]
				fmt.Fprintf(w, "\t%d", u.Devices)
				if !u.LastSeen.IsZero() {
					fmt.Fprintf(w, "\t%s", u.LastSeen.UTC().Format(time.RFC3339))
				}
			}
			fmt.Fprintln(w)
		}
	}
	return w.Flush()
}

func keysRetire() *cobra.Command {
	var path string
	var strand bool
	c := &cobra.Command{
		Use: "retire --config FILE KEY", Short: "End a previous or a next key",
		Long: `Takes a key out of the ring, by its file, its URI or the beginning of its thumbprint. The key file stays where it is. A current key
cannot be retired. Refused as long as devices in service last accepted this key and no other, unless --strand-devices is given,
and as long as deposits can be read with it alone.`,
		Example: `  teep-tam keys retire --config tam/tam.yaml 3f9a01
  teep-tam keys retire --config tam/tam.yaml keys/esp256.pem --strand-devices`,
		Args: program.ExactArgs("KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := editRing(path)
			if err != nil {
				return err
			}
			name, detail, err := e.retire(cmd, args[0], strand)
			if err != nil {
				return err
			}
			if err := e.save(cmd.Context(), audit.ActionKeysRetire, name, detail); err != nil {
				return err
			}
			return e.print(cmd, nil)
		},
	}
	c.Flags().BoolVar(&strand, "strand-devices", false, "retire it although devices know no other key: they need new trust anchors by other means")
	return configFlag(c, &path)
}

// retire takes a key out of the ring, and tells its name and what there is to say.
func (e *ringEdit) retire(cmd *cobra.Command, name string, strand bool) (key, detail string, err error) {
	list, i, opened, err := e.find(name)
	if err != nil {
		return "", "", err
	}
	k := (*list)[i]
	if k.Role == roleCurrent {
		return "", "", fmt.Errorf("%s is current: 'teep-tam keys rotate' puts another in its place first", k.Key)
	}
	detail = fmt.Sprintf("%s key %x", k.Role, opened.Public().Thumbprint())
	*list = slices.Delete(slices.Clone(*list), i, i+1)
	if list == &e.ring.Decryption {
		return k.Key, detail, e.depositsReadable(cmd)
	}
	use, err := e.use(cmd)
	if err != nil {
		return "", "", err
	}
	if u := use[string(opened.Public().Thumbprint())]; u.Devices > 0 && strand {
		detail += fmt.Sprintf(", which %d devices in service last accepted", u.Devices)
	} else if u.Devices > 0 {
		return "", "", fmt.Errorf("%d devices in service last accepted this key, the latest at %s: give them the new trust anchors ('teep-tam anchors'), or leave them behind with --strand-devices",
			u.Devices, u.LastSeen.UTC().Format(time.RFC3339))
	}
	return k.Key, detail, nil
}

// find finds a key of the ring by name or thumbprint.
func (e *ringEdit) find(name string) (list *[]ringKey, i int, key *keyfile.Key, err error) {
	for _, l := range e.lists() {
		for n := range *l {
			k, err := e.open(&(*l)[n])
			if err != nil {
				return nil, 0, nil, err
			}
			entry := (*l)[n].Key
			switch thumbprint := fmt.Sprintf("%x", k.Public().Thumbprint()); {
			case entry != name && keyName(e.config.Keys, entry) != name && (len(name) < 6 || !strings.HasPrefix(thumbprint, strings.ToLower(name))):
			case list != nil:
				return nil, 0, nil, &program.Usage{Err: fmt.Errorf("%q is the beginning of several thumbprints: write more of it", name)}
			default:
				list, i, key = l, n, k
			}
		}
	}
	if list == nil {
		return nil, 0, nil, &program.Usage{Err: fmt.Errorf("there is no key %q in the ring: name its file, or at least 6 digits of its thumbprint ('teep-tam keys list')", name)}
	}
	return list, i, key, nil
}

// depositsReadable refuses to part with the only key that opens a deposit.
func (e *ringEdit) depositsReadable(cmd *cobra.Command) error {
	store, err := openStore(cmd.Context(), e.config)
	if err != nil {
		return err
	}
	defer store.Close()
	var keys []*cose.Key
	for i := range e.ring.Decryption {
		k, err := e.open(&e.ring.Decryption[i])
		if err != nil {
			return err
		}
		private, err := k.Private()
		if err != nil {
			return err
		}
		keys = append(keys, private)
	}
	lost, err := tam.UnreadableDeposits(cmd.Context(), store, keys)
	if err != nil {
		return err
	}
	if len(lost) > 0 {
		return fmt.Errorf("%d deposits can be read with this key alone, such as %s: deposit them again first ('teep deposit'), or remove them", len(lost), lost[0])
	}
	return nil
}

func keysEncrypt() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "encrypt --config FILE", Short: "Encrypt the private key files that are not",
		Long: `Encrypts the files of all private keys that the configuration names with its key-secret, in place; each is replaced in
one step, and the running service reads them again. What is encrypted already stays as it is. The old content may still be on the disk: a new key is better than an old one that
lay there in the clear for long.`,
		Example: `  teep-tam keys encrypt --config tam/tam.yaml`, Args: program.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load(path)
			if err != nil {
				return err
			}
			opener, err := c.opened()
			if err != nil {
				return err
			}
			if opener.Secret == nil {
				return fmt.Errorf("%s: there is no key-secret: name a file, an environment variable or a credential of systemd that holds it", path)
			}
			for _, name := range c.keyFiles() {
				done, err := encryptFile(opener, name, func() error {
					return recordAudit(cmd.Context(), c, audit.ActionKeysEncrypt, c.inRing(name), "")
				})
				if err != nil {
					return err
				}
				if done {
					fmt.Fprintf(cmd.OutOrStdout(), "encrypted %s\n", name)
				}
			}
			return nil
		},
	}
	return configFlag(c, &path)
}
