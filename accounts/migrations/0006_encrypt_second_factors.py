from django.db import migrations

from orchestrator.db.fields import encrypted

# What allauth keeps of authenticators and recovery codes, in clear until now.
SECRETS = ("secret", "seed")


def encrypt(apps, schema_editor):
    for row in apps.get_model("mfa", "Authenticator").objects.filter(
        type__in=["totp", "recovery_codes"]
    ):
        clear = {name: row.data[name] for name in SECRETS if row.data.get(name)}
        row.data |= {name: encrypted(text) for name, text in clear.items()}
        row.save(update_fields=["data"])


class Migration(migrations.Migration):

    dependencies = [
        ("accounts", "0005_signing_in"),
        ("mfa", "0003_authenticator_type_uniq"),
    ]

    operations = [migrations.RunPython(encrypt, migrations.RunPython.noop)]
