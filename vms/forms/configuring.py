"""Forms of a VM's configuration."""

from __future__ import annotations

from typing import Any

from django import forms

from vms.configuration import LONGEST_PATH, OPTIONS

# What people set of a VM by hand, with words for it. The API takes all of the options.
OFFERED = {
    "description": "Description",
    "startup-view": "Window when it starts",
    "autostart": "Start by itself",
    "on-shutdown": "When it shuts down",
    "pause-idle": "Pause when idle",
    "resource-quota": "Share of the host",
    "nested-virt": "Nested virtualisation",
    "rosetta-linux": "Rosetta for Linux",
    "device-bootorder": "Boot order",
    "efi-secure-boot": "Secure boot",
    "time-sync": "Time from the host",
}


class ConfigureForm(forms.Form):
    """Options of a VM; what is left as it is changes nothing."""

    def __init__(self, *arguments: Any, known: dict[str, str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._known = known
        for name, label in OFFERED.items():
            words, now = OPTIONS[name].words, known.get(name, "")
            stopped = "" if OPTIONS[name].needs_stopped else "Also while it runs."
            if words:
                unknown = [] if now in words else [("", f"as it is{f' ({now})' if now else ''}")]
                self.fields[name] = forms.ChoiceField(
                    required=False,
                    label=label,
                    choices=[*unknown, *((word, word) for word in words)],
                    initial=now,
                    help_text=stopped,
                )
            else:
                self.fields[name] = forms.CharField(
                    required=False, max_length=200, label=label, initial=now, help_text=stopped
                )

    def clean(self) -> dict[str, Any]:
        """Return the options that are to be another than they are."""
        given = super().clean() or {}
        return {
            "options": {
                name: value
                for name, value in given.items()
                if value != self._known.get(name, "") and (value or not OPTIONS[name].words)
            }
        }


class ShareFolderForm(forms.Form):
    """A folder of the host that a VM is to see."""

    name = forms.CharField(max_length=64, help_text="As the guest sees it.")
    path = forms.CharField(
        max_length=LONGEST_PATH, help_text="On the VM's host, such as /Users/Shared/ci."
    )
    writable = forms.BooleanField(required=False, help_text="The guest may change what is in it.")
    description = forms.CharField(max_length=200, required=False)
